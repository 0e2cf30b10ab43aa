"""ResNet-18 for the exporter, with the very weights of the TorchScript model that is served.

FOREBAY_RESNET18 names that model. Its weights are constants of its graph, in the order in which
they are used.
"""

import os

import torch
from torch import nn


class Weights:
    """The weights of convolutions, normalizations and the last layer, in the order of their use."""

    def __init__(self, path):
        graph = torch.jit.load(path, map_location="cpu").inlined_graph
        self.convolutions = self.inputs(graph, ["aten::_convolution", "aten::conv2d"], 1, 2)
        self.norms = self.inputs(graph, ["aten::batch_norm"], 1, 5)
        self.last = self.inputs(graph, ["aten::linear"], 1, 3)
        found = len(self.convolutions), len(self.norms), len(self.last)
        if found != (20, 20, 1):
            raise ValueError(f"{path} is no ResNet-18 with its weights as constants: {found}")

    @staticmethod
    def inputs(graph, kinds, start, end):
        def tensors(node):
            values = list(node.inputs())[start:end]
            return [torch.tensor(value.toIValue()) if not isinstance(value.toIValue(), torch.Tensor)
                    else value.toIValue().clone() for value in values]

        return [tensors(node) for node in graph.nodes() if node.kind() in kinds]


class Convolution(nn.Module):
    def __init__(self, weights, stride):
        super().__init__()
        [weight] = weights.convolutions.pop(0)
        scale, shift, mean, variance = weights.norms.pop(0)
        outputs, inputs, size, _ = weight.shape
        self.convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        with torch.no_grad():
            self.convolution.weight.copy_(weight)
            self.norm.weight.copy_(scale)
            self.norm.bias.copy_(shift)
            self.norm.running_mean.copy_(mean)
            self.norm.running_var.copy_(variance)

    def forward(self, x):
        return self.norm(self.convolution(x))


class Block(nn.Module):
    def __init__(self, weights, stride):
        super().__init__()
        self.first = Convolution(weights, stride)
        self.second = Convolution(weights, 1)
        self.shortcut = nn.Identity() if stride == 1 else Convolution(weights, stride)

    def forward(self, x):
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


class ResNet18(nn.Module):
    def __init__(self, weights):
        super().__init__()
        layers = [Convolution(weights, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        for group in range(4):
            layers += [Block(weights, 1 if group == 0 else 2), Block(weights, 1)]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        [[weight, bias]] = weights.last
        self.classes = nn.Linear(512, 1000)
        with torch.no_grad():
            self.classes.weight.copy_(weight)
            self.classes.bias.copy_(bias)

    def forward(self, INPUT__0):
        return self.classes(self.layers(INPUT__0))


def resnet18():
    network = ResNet18(Weights(os.environ["FOREBAY_RESNET18"]))
    return network.eval(), {"INPUT__0": torch.randn(1, 3, 250, 250)}
