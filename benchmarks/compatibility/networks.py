"""The architectures of the table and the size of the images each is tried with."""

from __future__ import annotations

from collections.abc import Iterator

CLASSES = 10
_SIZE = 64  # pixels along each side: enough for five halvings, and fast
_CIFAR = 32
_OTHER_SIZES = {  # networks with a smallest size, a fixed window or a table of positions
    "torchvision/inception_v3": 96,
    "torchvision/swin_t": 224,
    "torchvision/vit_b_16": 224,
    "pytorchcv/bn_vgg16": 224,
    "pytorchcv/dpn68": 224,
    "pytorchcv/squeezenet_v1_1": 224,
    "timm/inception_v4": 96,
    "timm/convit_tiny": 224,
    "timm/levit_128s": 224,
    "timm/vit_tiny_patch16_224": 224,
}
_NETWORKS = {
    "torchvision": """
        alexnet vgg16 vgg16_bn resnet18 resnet50 resnext50_32x4d wide_resnet50_2 densenet121
        googlenet inception_v3 squeezenet1_1 mobilenet_v2 mobilenet_v3_small
        mobilenet_v3_large shufflenet_v2_x1_0 mnasnet1_0 efficientnet_b0 efficientnet_v2_s
        regnet_y_400mf convnext_tiny vit_b_16 swin_t
    """,
    "timm": """
        resnet18 resnet26d resnetv2_50 nf_resnet26 ecaresnet26t skresnet18 resnest14d
        res2net50_26w_4s cspresnet50 regnetx_002 repvgg_a0 mobileone_s0 vgg11_bn dla34
        hrnet_w18_small xception41 inception_v4 efficientnet_b0 tf_efficientnet_lite0
        tf_efficientnet_cc_b0_4e mixnet_s ghostnet_100 lcnet_050 mobilenetv3_small_100
        mobilenetv4_conv_small rexnet_100 fastvit_t8 levit_128s mobilevit_xxs
        vit_tiny_patch16_224 convit_tiny
    """,
    "pytorchcv": """
        resnet20_cifar10 resnet56_cifar10 preresnet20_cifar10 seresnet20_cifar10
        diaresnet20_cifar10 wrn16_10_cifar10 pyramidnet110_a48_cifar10
        resnext29_32x4d_cifar10 densenet40_k12_cifar10 xdensenet40_2_k24_bc_cifar10
        nin_cifar10 resnet18 bn_vgg16 cbam_resnet18 dpn68 peleenet squeezenet_v1_1
        shufflenet_g1_w1 shufflenetv2_w1 igcv3_w1 mobilenet_w1 mobilenetv2_w1
        mobilenetv3_large_w1 ghostnet proxylessnas_mobile efficientnet_b0
    """,
}


def networks() -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Yield name and image shape (C, H, W) of each architecture."""
    for family, names in _NETWORKS.items():
        for name in names.split():
            architecture = f"{family}/{name}"
            size = _OTHER_SIZES.get(architecture, _CIFAR if name.endswith("_cifar10") else _SIZE)
            yield architecture, (3, size, size)
