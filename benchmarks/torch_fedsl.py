"""The FedSL round as a plain PyTorch loop, the baseline of `benchmarks.round`.

One round does what `fedjax_sl.fedsl` does (arXiv 2412.06414, its silent parts
reconstructed alike): filters pruned by Taylor scores at each synchronisation, dropout
at the cut, quantised client gradients, SGD with momentum on both sides, client models
averaged every I rounds from quantised updates.

    python -m benchmarks.torch_fedsl --width 0.25
"""

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain
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
PER_CONV = 4
"""Parameters of a convolution and its norm: kernel, bias, scale, bias."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Options of `make_round`; every technique is on unless set to 0."""

    depth: int = 19
    width: float = 0.25
    cut: int = 4
    clients: int = 10
    batch: int = 16
    interval: int = 5
    ratio: float = 0.35
    prune_end: int = 50
    bits: int = 8
    rate: float = 0.2
    learning_rate: float = 0.01
    momentum: float = 0.9
    server: Literal["merged", "per_client"] = "merged"
    channels_last: bool = True
    threads: int = 2
    seed: int = 0


def groups(channels: int) -> int:
    """The largest number of equal groups of at least 16 channels, else one group."""
    most = max(1, channels // 16)
    return next(g for g in range(most, 0, -1) if channels % g == 0)


def split_vgg(depth: int, width: float, cut: int) -> tuple[nn.Module, nn.Module]:
    """The halves of a VGG, cut after convolution L_c and any pooling behind it."""
    stages, inputs = [], 3
    for count, channels in zip(BLOCKS[depth], CHANNELS, strict=True):
        outputs = max(1, round(channels * width))
        for position in range(1, count + 1):
            conv = nn.Conv2d(inputs, outputs, 3, padding=1)
            norm = nn.GroupNorm(groups(outputs), outputs)
            # Pooling and ReLU commute; so the ReLU has a quarter of the work.
            pool = [nn.MaxPool2d(2)] if position == count else []
            stages.append([conv, norm, *pool, nn.ReLU(inplace=True)])
            inputs = outputs
    hidden = max(1, round(512 * width))
    head = [nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(inplace=True)]
    head += [nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, 10)]
    client, server = chain(*stages[:cut]), chain(*stages[cut:], head)
    return nn.Sequential(*client), nn.Sequential(*server)


def quantized(x: Tensor, bits: int) -> Tensor:
    """Q_b(x), stochastic and unbiased: floor(y + u) is y rounded up by its fraction."""
    levels = 2 ** (bits - 1) - 1
    step = x.abs().max().clamp(min=1e-30) / levels
    level = (x / step).add_(torch.rand_like(x)).floor_()
    return level.clamp_(-levels, levels).mul_(step)


class FedSL:
    """K clients and a server on one synthetic batch; calling it with t runs round t."""

    def __init__(self, settings: Settings):
        self.settings = s = settings
        torch.set_num_threads(s.threads)
        torch.manual_seed(s.seed)
        layout = torch.channels_last if s.channels_last else torch.contiguous_format
        client, self.server = (
            nn.utils.convert_conv2d_weight_memory_format(half, layout)
            for half in split_vgg(s.depth, s.width, s.cut)
        )
        self.clients = [copy.deepcopy(client) for _ in range(s.clients)]
        self.params = [list(client.parameters()) for client in self.clients]
        self.anchor = [p.detach().clone() for p in client.parameters()]
        self.masks = [[torch.ones_like(p) for p in self.anchor] for _ in self.clients]
        images = torch.randn(s.clients * s.batch, 3, 32, 32)
        self.images = images.contiguous(memory_format=layout).split(s.batch)
        self.labels = torch.randint(10, (s.clients * s.batch,)).split(s.batch)
        self.optimizers = [
            torch.optim.SGD(p, lr=s.learning_rate, momentum=s.momentum, foreach=True)
            for p in (chain(*self.params), self.server.parameters())
        ]
        everyone = list(range(s.clients))
        self.passes = [everyone] if s.server == "merged" else [[k] for k in everyone]

    def __call__(self, t: int) -> float:
        """Runs round t; returns the mean loss before its update."""
        if t % self.settings.interval == 0:
            self.remask(t)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss = sum(self.backward(members) for members in self.passes)
        self.update()
        if (t + 1) % self.settings.interval == 0:
            self.aggregate()
        return loss

    def forward(self, members: list[int], rate: float) -> tuple[list, Tensor, Tensor]:
        """Returns activations, server input, and the members' share of the loss."""
        sent = [F.dropout(self.clients[k](self.images[k]), rate) for k in members]
        received = torch.cat([x.detach() for x in sent]).requires_grad_()
        labels = torch.cat([self.labels[k] for k in members])
        loss = F.cross_entropy(self.server(received), labels)
        return sent, received, loss * (len(members) / self.settings.clients)

    def returned(self, grad: Tensor) -> tuple[Tensor, ...]:
        """Returns each client's gradient at the cut, of its own loss."""
        return (grad * self.settings.clients).split(self.settings.batch)

    def backward(self, members: list[int]) -> float:
        """Adds to the server's gradient and leaves the members' in their parameters."""
        sent, received, loss = self.forward(members, self.settings.rate)
        loss.backward()
        torch.autograd.backward(sent, self.returned(received.grad))  # type: ignore
        return loss.item()

    def kernel_gradients(self, members: list[int]) -> list[tuple[Tensor, ...]]:
        """Returns gradients of the dense client kernels, and of no server kernel."""
        sent, received, loss = self.forward(members, 0.0)
        (grad,) = torch.autograd.grad(loss, received)
        kernels = list(chain(*(self.params[k][::PER_CONV] for k in members)))
        grads = torch.autograd.grad(sent, kernels, self.returned(grad))
        cut = self.settings.cut
        return [grads[i : i + cut] for i in range(0, len(grads), cut)]

    def remask(self, t: int) -> None:
        """Prunes the filters of least score sum (g w)^2, each client its own."""
        grads = chain(*(self.kernel_gradients(members) for members in self.passes))
        ramp = 1 - (1 - min(t / self.settings.prune_end, 1)) ** 3
        for k, client_grads in enumerate(grads):
            inputs, masks = torch.ones(3), []
            kernels = self.params[k][::PER_CONV]
            for kernel, grad in zip(kernels, client_grads, strict=True):
                scores = (grad * kernel.detach()).square_().sum((1, 2, 3))
                count = int(self.settings.ratio * ramp * len(scores))
                lowest = scores.argsort(stable=True)[:count]
                keep = torch.ones_like(scores).index_fill_(0, lowest, 0)
                masks += [keep.view(-1, 1, 1, 1) * inputs.view(-1, 1, 1), *[keep] * 3]
                inputs = keep
            self.masks[k] = masks
        self.prune()

    @torch.no_grad()
    def prune(self) -> None:
        """Sets pruned weights to 0; the anchor keeps their dense values."""
        for param, mask in zip(chain(*self.params), chain(*self.masks), strict=True):
            param.mul_(mask)

    @torch.no_grad()
    def update(self) -> None:
        """Steps both sides, clients with masked and quantised gradients."""
        for param, mask in zip(chain(*self.params), chain(*self.masks), strict=True):
            grad = param.grad.mul_(mask)  # type: ignore
            param.grad = quantized(grad, self.settings.bits)
        for optimizer in self.optimizers:
            optimizer.step()
        self.prune()  # momentum may still move what was pruned just now

    @torch.no_grad()
    def aggregate(self) -> None:
        """Adds the mean of the quantised updates to the common, dense client model."""
        for i, anchor in enumerate(self.anchor):
            updates = [
                (params[i] - anchor).mul_(masks[i])
                for params, masks in zip(self.params, self.masks, strict=True)
            ]
            if (
                self.settings.interval > 1
            ):  # else the quantised gradient was the message
                updates = [quantized(update, self.settings.bits) for update in updates]
            anchor.add_(torch.stack(updates).mean(0))
            for params in self.params:
                params[i].copy_(anchor)


def make_round(**settings) -> Callable[[int], float]:
    """Returns a function that runs round t and returns the mean loss."""
    return FedSL(Settings(**settings))


def examples_per_second(settings: Settings, blocks: int) -> tuple[float, list[float]]:
    """Returns the median rate over blocks of one interval, and the losses."""
    run, interval = FedSL(settings), settings.interval
    losses, seconds = [], []
    for block in range(blocks + 1):
        start = time.perf_counter()
        losses += [run(t) for t in range(block * interval, (block + 1) * interval)]
        seconds.append(time.perf_counter() - start)
    return settings.clients * settings.batch * interval / median(seconds[1:]), losses


def main() -> None:
    """Prints examples per second with one server pass, and with one per client."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--depth", type=int, default=19, choices=sorted(BLOCKS))
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--cut", type=int, default=4)
    parser.add_argument("--blocks", type=int, default=5)
    chosen = vars(parser.parse_args())
    blocks = chosen.pop("blocks")
    for server in ("merged", "per_client"):
        settings = replace(Settings(**chosen), server=server)
        rate, losses = examples_per_second(settings, blocks)
        print(
            f"{server:10s} {rate:7.1f} examples/s"
            f"   loss {losses[0]:.3f} -> {losses[-1]:.3f}"
        )


if __name__ == "__main__":
    main()
