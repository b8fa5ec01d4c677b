"""The PyTorch side of ``folder_speed.py``: ``DataLoader``, pytorch-grad-cam, and TorchXRayVision's network."""

import numpy as np
import torch
import torchvision
import torchxrayvision as xrv
from protocol import answer, settings
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.data import DataLoader, Dataset
from torch_mobilenet import MobileNet

XRV_SIZE = 224  # of TorchXRayVision's own networks


class Radiographs(Dataset):
    """(3, size, size) float32 in [-1, 1], decoded in gray by libjpeg-turbo and resized as bytes."""

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
    config = settings()
    torch.set_num_threads(config["threads"])
    network, how = ready(MobileNet(2, 0.0)), {"batch_size": config["batch"], "num_workers": config["threads"]}
    images = DataLoader(Radiographs(config["files"], config["size"]), **how, persistent_workers=True)
    # Random weights are as fast, and need no download.
    theirs = xrv.models.DenseNet(weights=None, num_classes=18).eval().to(memory_format=torch.channels_last)
    xrv_images = DataLoader(XrvRadiographs(config["files"], XRV_SIZE), **how, persistent_workers=True)
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
    """Channels last, with batch normalisation folded into the convolution before it, as in ONNX Runtime."""
    layers = list(network.eval().backbone)
    folded = []
    for layer in layers:
        is_norm = isinstance(layer, torch.nn.BatchNorm2d)
        folded[-1:] = [fuse_conv_bn_eval(folded[-1], layer)] if is_norm else [*folded[-1:], layer]
    network.backbone = torch.nn.Sequential(*folded)
    return network.to(memory_format=torch.channels_last)


if __name__ == "__main__":
    main()
