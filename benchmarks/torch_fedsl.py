"""The same FedSL round as a plain PyTorch loop: what the compiled round is timed against.

One round does what `fedjax_sl.fedsl` does with its defaults (arXiv 2412.06414, the
silent parts reconstructed alike): filters pruned by Taylor scores at each
synchronisation, dropout at the cut, quantised client gradients, SGD with momentum on
both sides, client models averaged every I rounds from quantised updates.

    python benchmarks/torch_fedsl.py --width 0.25
"""

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


BLOCKS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
CHANNELS = (64, 128, 256, 512, 512)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What `make_round` can be given; names and meaning as in `FedSLConfig`."""

    depth: int = 19
    width: float = 0.25
    cut: int = 4
    clients: int = 10
    batch: int = 16
    interval: int = 5
    ratio: float = 0.35
    ramp: int = 50
    """Rounds over which the pruning ratio grows."""
    bits: int = 8
    rate: float = 0.2
    learning_rate: float = 0.01
    momentum: float = 0.9
    server: Literal["merged", "per_client"] = "merged"
    """One server pass on all clients' activations, or one for each client."""
    channels_last: bool = True
    threads: int = 2
    """Threads of PyTorch in this process."""
    seed: int = 0


def groups(channels: int) -> int:
    """The largest number of equal groups of at least 16 channels, else one group."""
    most = max(1, channels // 16)
    return next(g for g in range(most, 0, -1) if channels % g == 0)


def split_vgg(depth: int, width: float, cut: int) -> tuple[nn.Sequential, nn.Sequential]:
    """The halves of a VGG cut after convolution L_c, and after its block's pooling."""
    stages, inputs = [], 3
    for count, channels in zip(BLOCKS[depth], CHANNELS, strict=True):
        outputs = max(1, round(channels * width))
        for position in range(1, count + 1):
            stage = [nn.Conv2d(inputs, outputs, 3, padding=1)]
            stage.append(nn.GroupNorm(groups(outputs), outputs))
            if position == count:
                stage.append(nn.MaxPool2d(2))
            stages.append([*stage, nn.ReLU(inplace=True)])
            inputs = outputs
    hidden = max(1, round(512 * width))
    head = [nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(inplace=True)]
    head += [nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, 10)]
    client, server = sum(stages[:cut], []), sum(stages[cut:], [])
    return nn.Sequential(*client), nn.Sequential(*server, *head)


def quantized(x: Tensor, bits: int) -> Tensor:
    """Q_b(x): stochastic, unbiased, scaled by the largest magnitude.

    floor(y + u) rounds y up with the probability of its fraction, whatever its sign.
    """
    levels = 2 ** (bits - 1) - 1
    scale = x.abs().max().clamp(min=torch.finfo(x.dtype).tiny)
    level = (x / scale * levels).add_(torch.rand_like(x)).floor_()
    return level.clamp_(-levels, levels).mul_(scale / levels)


class FedSL:
    """K clients, a server, and their rounds; called with t it runs round t."""

    def __init__(self, settings: Settings):
        self.settings = s = settings
        torch.set_num_threads(s.threads)
        torch.manual_seed(s.seed)
        layout = torch.channels_last if s.channels_last else torch.contiguous_format
        client, server = split_vgg(s.depth, s.width, s.cut)
        client.to(memory_format=layout)
        self.server = server.to(memory_format=layout)
        self.clients = [copy.deepcopy(client) for _ in range(s.clients)]
        self.params = [list(client.parameters()) for client in self.clients]
        self.anchor = [p.detach().clone() for p in client.parameters()]
        self.masks = [[torch.ones_like(p) for p in self.anchor] for _ in self.clients]
        sgd = {"lr": s.learning_rate, "momentum": s.momentum, "fused": True}
        self.client_optimizer = torch.optim.SGD(sum(self.params, []), **sgd)
        self.server_optimizer = torch.optim.SGD(self.server.parameters(), **sgd)
        images = torch.randn(s.clients * s.batch, 3, 32, 32)
        self.images = images.contiguous(memory_format=layout).split(s.batch)
        self.labels = torch.randint(10, (s.clients * s.batch,)).split(s.batch)
        everyone = list(range(s.clients))
        self.groups = [everyone] if s.server == "merged" else [[k] for k in everyone]

    def __call__(self, t: int) -> float:
        """Runs round t; returns the mean loss before its update."""
        if t % self.settings.interval == 0:
            self.remask(t)
        self.client_optimizer.zero_grad()
        self.server_optimizer.zero_grad()
        loss = sum(self.backward(group) for group in self.groups)
        self.update()
        if (t + 1) % self.settings.interval == 0:
            self.aggregate()
        return loss

    def forward(self, group: list[int], rate: float) -> tuple[list, Tensor, Tensor]:
        """What a group sent, what the server received, and its share of the mean loss."""
        sent = [F.dropout(self.clients[k](self.images[k]), rate) for k in group]
        received = torch.cat([x.detach() for x in sent]).requires_grad_()
        labels = torch.cat([self.labels[k] for k in group])
        loss = F.cross_entropy(self.server(received), labels)
        return sent, received, loss * (len(group) / self.settings.clients)

    def returned(self, grad: Tensor) -> tuple[Tensor, ...]:
        """Each client's gradient at the cut, of its own loss instead of the mean's."""
        return (grad * self.settings.clients).split(self.settings.batch)

    def backward(self, group: list[int]) -> float:
        """Adds up the server's gradient and leaves the clients' in their parameters."""
        sent, received, loss = self.forward(group, self.settings.rate)
        loss.backward()
        torch.autograd.backward(sent, self.returned(received.grad))
        return loss.item()

    def kernel_gradients(self, group: list[int]) -> list[tuple[Tensor, ...]]:
        """Gradients of the dense client kernels, for scoring; the server's are not taken.

        A convolution has four parameters, the first of which is its kernel.
        """
        sent, received, loss = self.forward(group, 0.0)
        (grad,) = torch.autograd.grad(loss, received)
        kernels = sum((self.params[k][::4] for k in group), [])
        grads = torch.autograd.grad(sent, kernels, self.returned(grad))
        cut = self.settings.cut
        return [grads[i : i + cut] for i in range(0, len(grads), cut)]

    def remask(self, t: int) -> None:
        """Prunes each client's filters of least Taylor score, on a cubic ramp."""
        ratio = self.settings.ratio * (1 - (1 - min(t / self.settings.ramp, 1)) ** 3)
        grads = [g for group in self.groups for g in self.kernel_gradients(group)]
        with torch.no_grad():
            for params, client_grads, masks in zip(self.params, grads, self.masks):
                inputs = torch.ones(3)
                for i, (kernel, grad) in enumerate(zip(params[::4], client_grads)):
                    scores = (grad * kernel).square_().sum((1, 2, 3))
                    lowest = scores.argsort(stable=True)[: int(ratio * len(scores))]
                    keep = torch.ones(len(scores)).index_fill_(0, lowest, 0)
                    coupled = keep.view(-1, 1, 1, 1) * inputs.view(1, -1, 1, 1)
                    masks[4 * i : 4 * i + 4] = [coupled, keep, keep, keep]
                    inputs = keep
                for param, mask in zip(params, masks):
                    param.mul_(mask)

    @torch.no_grad()
    def update(self) -> None:
        """SGD on both sides, the clients' gradients masked and quantised."""
        for params, masks in zip(self.params, self.masks):
            for param, mask in zip(params, masks):
                param.grad = quantized(param.grad.mul_(mask), self.settings.bits)
        self.client_optimizer.step()
        self.server_optimizer.step()
        for params, masks in zip(self.params, self.masks):
            for param, mask in zip(params, masks):
                param.mul_(mask)  # the momentum may still move what was just pruned

    @torch.no_grad()
    def aggregate(self) -> None:
        """Adds the mean of the quantised updates to the common, dense client model."""
        for i, anchor in enumerate(self.anchor):
            updates = [
                (params[i] - anchor).mul_(masks[i])
                for params, masks in zip(self.params, self.masks)
            ]
            if self.settings.interval > 1:  # else the gradient was the message
                updates = [quantized(u, self.settings.bits) for u in updates]
            anchor.add_(torch.stack(updates).mean(0))
            for params in self.params:
                params[i].copy_(anchor)


def make_round(**settings) -> Callable[[int], float]:
    """A function that runs round t on synthetic images and returns the mean loss.

    Args:
      **settings: fields of `Settings`.
    """
    return FedSL(Settings(**settings))


def examples_per_second(settings: Settings, blocks: int) -> float:
    """The median over blocks of one aggregation interval each, after one to warm up."""
    run, seconds = FedSL(settings), []
    for block in range(blocks + 1):
        start = time.perf_counter()
        for t in range(block * settings.interval, (block + 1) * settings.interval):
            run(t)
        seconds.append(time.perf_counter() - start)
    examples = settings.clients * settings.batch * settings.interval
    return examples / median(seconds[1:])
