"""The PyTorch side of ``training_speed.py``: the network of the MobileNet recipes, and its training steps alone.

It needs ``torch`` and nothing of this project. The benchmark starts it with settings as JSON. It prints versions and
parameter counts, then answers each line on standard input (``float32`` or ``bfloat16``) with one timed repeat.
"""

import json
import platform
import sys
import time
from collections.abc import Callable

import torch
from torch import nn

# Output channels and stride of each depthwise-separable block (Howard et al., 2017, table 1).
BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1),
    (1024, 2), (1024, 1),
)  # fmt: skip
HEAD_UNITS = 128


class MobileNet(nn.Module):
    """MobileNet v1 (alpha 1.0) under the project's head: (N, 3, H, W) float32 -> (N, classes) logits."""

    def __init__(self, classes: int, dropout: float) -> None:
        super().__init__()
        layers, channels = _convolution(3, 32, kernel=3, stride=2), 32
        for wider, stride in BLOCKS:
            layers += _convolution(channels, channels, kernel=3, stride=stride, groups=channels)
            layers += _convolution(channels, wider, kernel=1)
            channels = wider
        self.backbone = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(channels, HEAD_UNITS),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(HEAD_UNITS, classes),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(image).mean((2, 3)))


def _convolution(inputs: int, outputs: int, *, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution, batch normalisation and ReLU6 as Keras builds them: with stride 2 it pads below and right only."""
    padding = kernel // 2 if stride == 1 else 0
    return [
        *([nn.ZeroPad2d((0, 1, 0, 1))] if stride == 2 else []),
        nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),  # the momentum of 0.99 in Keras is 1 - 0.01 here
        nn.ReLU6(inplace=True),
    ]


def parameters(module: nn.Module) -> dict[str, int]:
    """Parameters as Keras counts them: all, with the statistics of batch normalisation, and the trainable ones."""
    statistics = sum(buffer.numel() for name, buffer in module.named_buffers() if "running" in name)
    return {
        "all": sum(parameter.numel() for parameter in module.parameters()) + statistics,
        "trainable": sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad),
    }


def build(settings: dict) -> MobileNet:
    """The network of the recipe, ready to train. Frozen batch normalisation keeps its statistics, scale and offset."""
    network = MobileNet(settings["classes"], settings["dropout"]).to(memory_format=torch.channels_last).train()
    if settings["frozen_norm"]:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval().requires_grad_(False)
    return network


def trainer(settings: dict, autocast: bool) -> Callable[[], float]:
    """A network with its own optimizer. Each call is one repeat and returns its seconds."""
    torch.manual_seed(0)
    network = build(settings)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings["learning_rate"], weight_decay=settings["weight_decay"])
    loss = nn.CrossEntropyLoss(label_smoothing=settings["label_smoothing"])
    images = torch.rand(settings["batch_size"], 3, settings["size"], settings["size"]) * 2 - 1
    images = images.to(memory_format=torch.channels_last)
    targets = torch.arange(settings["batch_size"]) % settings["classes"]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits = network(images)
        value = loss(logits.float(), targets)
        value.backward()
        optimizer.step()
        value.item()

    def repeat() -> float:
        for _ in range(settings["lead"]):
            step()
        began = time.perf_counter()
        for _ in range(settings["steps"]):
            step()
        return time.perf_counter() - began

    return repeat


def main() -> None:
    settings = json.loads(sys.argv[1])
    torch.set_num_threads(settings["threads"])
    repeats = {"float32": trainer(settings, autocast=False), "bfloat16": trainer(settings, autocast=True)}
    network = build(settings)
    about = {
        "versions": {"torch": torch.__version__, "python of torch": platform.python_version()},
        "backbone_parameters": parameters(network.backbone)["all"],
        "network_parameters": parameters(network),
    }
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        print(json.dumps(repeats[line.strip()]()), flush=True)


if __name__ == "__main__":
    main()
