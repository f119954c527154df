"""A round of SplitFed v1 on ResNet-18 as a plain PyTorch loop.

The baseline of `benchmarks.resnet`: group norm, cut after the first residual block, one
server pass for all clients, SGD with momentum on both sides.
"""

import copy
import os
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.torch_fedsl import groups


CHANNELS = (64, 128, 256, 512)
CLIENT_STAGES = 2


def normed(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Module:
    """A convolution and its norm."""
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2)
    return nn.Sequential(conv, nn.GroupNorm(groups(outputs), outputs))


class Block(nn.Module):
    """Two convolutions, added to what comes in."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.first = normed(inputs, outputs, stride=stride)
        self.second = normed(outputs, outputs)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else normed(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the block's activations."""
        y = self.second(self.first(x).relu_())
        return (y + self.shortcut(x)).relu_()


def stages_of(width: float) -> list[nn.Module]:
    """Returns a module for each stage of our network."""
    channels = [max(1, round(c * width)) for c in CHANNELS]
    stages: list[nn.Module] = [
        nn.Sequential(normed(3, channels[0]), nn.ReLU(inplace=True))
    ]
    inputs = channels[0]
    for number, outputs in enumerate(channels):
        for position in range(2):
            stride = 2 if number and not position else 1
            stages.append(Block(inputs, outputs, stride))
            inputs = outputs
    pool = nn.AdaptiveAvgPool2d(1)
    return [*stages, nn.Sequential(pool, nn.Flatten(), nn.Linear(inputs, 10))]


class SplitFed:
    """K clients and a server on one synthetic batch."""

    def __init__(self, width: float, clients: int, batch: int):
        torch.set_num_threads(os.cpu_count() or 1)
        self.batch, layout = batch, torch.channels_last
        stages = stages_of(width)
        halves = (stages[:CLIENT_STAGES], stages[CLIENT_STAGES:])
        client, self.server = (
            nn.utils.convert_conv2d_weight_memory_format(nn.Sequential(*half), layout)
            for half in halves
        )
        self.clients = [copy.deepcopy(client) for _ in range(clients)]
        self.optimizers = [
            torch.optim.SGD(side.parameters(), lr=0.01, momentum=0.9, foreach=True)
            for side in (*self.clients, self.server)
        ]
        images = torch.randn(clients * batch, 3, 32, 32)
        self.images = images.contiguous(memory_format=layout).split(batch)
        self.labels = torch.randint(10, (clients * batch,))

    def round(self) -> None:
        """A step of every client, and one of the server on all their activations."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        pairs = zip(self.clients, self.images, strict=True)
        sent = [client(images) for client, images in pairs]
        received = torch.cat([x.detach() for x in sent]).requires_grad_()
        F.cross_entropy(self.server(received), self.labels).backward()
        # Each client's gradient is of its own loss, not of the mean of all.
        returned = (received.grad * len(self.clients)).split(self.batch)
        torch.autograd.backward(sent, returned)
        for optimizer in self.optimizers:
            optimizer.step()

    @torch.no_grad()
    def average(self) -> None:
        """Gives every client the mean of all client models."""
        for each in zip(*(client.parameters() for client in self.clients), strict=True):
            mean = torch.stack(each).mean(0)
            for param in each:
                param.copy_(mean)


def block_of(
    width: float, *, clients: int, batch: int, interval: int
) -> Callable[[], None]:
    """Returns a function that runs one interval of rounds."""
    run = SplitFed(width, clients, batch)

    def block() -> None:
        for _ in range(interval):
            run.round()
        run.average()

    return block
