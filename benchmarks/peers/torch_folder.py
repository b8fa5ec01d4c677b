"""PyTorch beside us: ``DataLoader`` and the same MobileNet, pytorch-grad-cam, TorchXRayVision's loader and network."""

import sys
from pathlib import Path

import numpy as np
import torch
import torchvision
import torchxrayvision as xrv
from protocol import answer, settings
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).parents[1]))
from torch_mobilenet import MobileNet

XRV_SIZE = 224  # of TorchXRayVision's own networks


class Radiographs(Dataset):
    """(3, size, size) float32 in [-1, 1], decoded in gray by libjpeg-turbo and made small as bytes."""

    def __init__(self, files: list[str], size: int) -> None:
        self.files, self.size = files, size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        gray = torchvision.io.decode_image(self.files[index], torchvision.io.ImageReadMode.GRAY)
        small = torchvision.transforms.functional.resize(gray, [self.size, self.size], antialias=True)
        return (small.float() / 127.5 - 1).expand(3, -1, -1)


class XrvRadiographs(Radiographs):
    """(1, 224, 224) float32 in [-1024, 1024], by TorchXRayVision's own functions."""

    def __getitem__(self, index: int) -> torch.Tensor:
        pixels = xrv.utils.load_image(self.files[index])
        both = torchvision.transforms.Compose([xrv.datasets.XRayCenterCrop(), xrv.datasets.XRayResizer(self.size)])
        return torch.from_numpy(both(pixels).astype(np.float32))


def main() -> None:
    given = settings()
    torch.set_num_threads(given["threads"])
    network, how = ready(MobileNet(2, 0.0)), {"batch_size": given["batch"], "num_workers": given["threads"]}
    images = DataLoader(Radiographs(given["files"], given["size"]), **how, persistent_workers=True)
    # Its trained weights would have to be downloaded; random ones are as fast.
    theirs = xrv.models.DenseNet(weights=None, num_classes=18).eval().to(memory_format=torch.channels_last)
    xrv_images = DataLoader(XrvRadiographs(given["files"], XRV_SIZE), **how, persistent_workers=True)
    cam = GradCAM(network, [network.backbone[-1]])

    @torch.inference_mode()
    def predict(model: torch.nn.Module, loader: DataLoader) -> int:
        return sum(len(model(batch.contiguous(memory_format=torch.channels_last))) for batch in loader)

    def explain() -> int:
        return sum(len(cam(batch, [ClassifierOutputTarget(1)] * len(batch))) for batch in images)

    works = {
        "DataLoader": lambda: predict(network, images),
        "TorchXRayVision": lambda: predict(theirs, xrv_images),
        "grad-cam": explain,
    }
    answer(works, ("torch", "torchvision", "torchxrayvision", "grad-cam"))


def ready(network: MobileNet) -> MobileNet:
    """Channels last, and batch normalisation folded into the convolution before it, as ONNX Runtime does."""
    layers = list(network.eval().backbone)
    folded = []
    for layer in layers:
        is_norm = isinstance(layer, torch.nn.BatchNorm2d)
        folded[-1:] = [fuse_conv_bn_eval(folded[-1], layer)] if is_norm else [*folded[-1:], layer]
    network.backbone = torch.nn.Sequential(*folded)
    return network.to(memory_format=torch.channels_last)


if __name__ == "__main__":
    main()
