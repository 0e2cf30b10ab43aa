"""The models that conformance exports with docs/export/export_aoti.py: random weights, always the
same, so that another process can hold the server's answers against the model's own."""

import torch
from torch import nn


class Mlp(nn.Module):
    """A perceptron 784-512-10, whose outputs have names."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(784, 512)
        self.last = nn.Linear(512, 10)

    def forward(self, image, bias):
        scores = self.last(torch.relu(self.hidden(image))) + bias
        return {"scores": scores, "best": scores.argmax(dim=1, keepdim=True)}


class Lookup(nn.Module):
    """Rows of a table, looked up by the numbers in the input."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 64)

    def forward(self, numbers):
        return torch.relu(self.table(numbers)).flatten(1)


class Block(nn.Module):
    """Two convolutions and the way around them."""

    def __init__(self, width, to, stride):
        super().__init__()
        self.first = convolution(width, to, 3, stride)
        self.second = convolution(to, to, 3, 1)
        self.shortcut = nn.Identity() if stride == 1 else convolution(width, to, 1, stride)

    def forward(self, x):
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


class ResNet18(nn.Module):
    """ResNet-18, whose output has no name."""

    def __init__(self):
        super().__init__()
        layers = [convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        width = 64
        for to in (64, 128, 256, 512):
            layers += [Block(width, to, 1 if to == width else 2), Block(to, to, 1)]
            width = to
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classes = nn.Linear(512, 1000)

    def forward(self, image):
        return self.classes(self.layers(image))


def convolution(width, to, size, stride):
    return nn.Sequential(
        nn.Conv2d(width, to, size, stride, size // 2, bias=False), nn.BatchNorm2d(to)
    )


def mlp():
    torch.manual_seed(1)
    # Listed in another order than forward's, which must not matter.
    return Mlp().eval(), {"bias": torch.randn(1, 10), "image": torch.randn(1, 784)}


def resnet18():
    torch.manual_seed(2)
    return ResNet18().eval(), (torch.randn(1, 3, 224, 224),)


def lookup():
    torch.manual_seed(3)
    return Lookup().eval(), (torch.zeros(1, 512, dtype=torch.int64),)
