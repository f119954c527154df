"""FedLP's round as a plain PyTorch loop: the baseline of `benchmarks.fedlpq`.

One client after another copies the network, trains for an epoch with SGD, and sends its
layers with probability p; each layer is averaged over the clients that sent it.

    python -m benchmarks.torch_fedlp --batch 10
"""

import argparse
import copy
import time

import torch
from torch import nn
from torch.nn import functional as F


class CNN(nn.Module):
    """Six convolutions, each with ReLU and batch norm, and two dense layers."""

    def __init__(self):
        super().__init__()
        channels = (3, 32, 32, 64, 64, 128, 128)
        pairs = list(zip(channels, channels[1:], strict=False))
        self.conv = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairs)
        self.bn = nn.ModuleList(nn.BatchNorm2d(b) for _, b in pairs)
        self.fc1, self.fc2 = nn.Linear(2048, 128), nn.Linear(128, 10)

    def forward(self, x):
        """Returns the logits of images `[B, 3, 32, 32]`."""
        for number, (conv, bn) in enumerate(zip(self.conv, self.bn, strict=True), 1):
            x = bn(F.relu(conv(x)))
            if number % 2 == 0:
                x = F.max_pool2d(x, 2)
        return self.fc2(self.fc1(x.flatten(1)))


class FedLP:
    """K clients with their own images; a call runs a round."""

    def __init__(self, *, clients, examples, batch, keep=0.5, threads):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.model, self.batch, self.keep = CNN(), batch, keep
        self.images = torch.randn(clients, examples, 3, 32, 32)
        self.labels = torch.randint(0, 10, (clients, examples))

    def train(self, images, labels):
        """Trains a copy of the network for an epoch, and returns its state."""
        model = copy.deepcopy(self.model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.5)
        for chosen in torch.randperm(len(labels)).split(self.batch):
            optimizer.zero_grad()
            F.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()
        return model.state_dict()

    def __call__(self):
        """Runs one round."""
        states = [
            self.train(*own) for own in zip(self.images, self.labels, strict=True)
        ]
        mean = self.model.state_dict()
        for name in mean:
            sent = [state[name] for state in states if torch.rand(()) < self.keep]
            if sent and mean[name].is_floating_point():
                mean[name] = torch.stack(sent).mean(0)
        self.model.load_state_dict(mean)


def main() -> None:
    """Prints examples per second."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    federation = FedLP(
        clients=10, examples=500, batch=chosen.batch, threads=chosen.threads
    )
    for _ in range(chosen.rounds):
        started = time.perf_counter()
        federation()
        print(f"{5000 / (time.perf_counter() - started):.0f} examples/s")


if __name__ == "__main__":
    main()
