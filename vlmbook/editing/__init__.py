"""Editing photographs: enlarging, cleaning, filling holes, painting in a style; how well it was done; files.

Images are (C, H, W), floating in [0, 1] or bytes, of one or three channels and any size. Nothing is written
but new files.
"""

from vlmbook.editing.denoising import (
    DenoisingNetwork,
    denoise,
    denoiser,
    denoising_loss,
    estimate_noise,
    load_denoiser,
)
from vlmbook.editing.holes import block_mask, free_form_mask
from vlmbook.editing.inpainting import (
    GatedConv2d,
    GatedUNet,
    draw_masks,
    fill_smoothly,
    inpaint,
    inpainter,
    inpainting_loss,
    load_inpainter,
)
from vlmbook.editing.photographs import (
    Photograph,
    denoise_photograph,
    encode_photograph,
    inpaint_photograph,
    read_hole,
    read_photograph,
    save_photograph,
    stylise_photograph,
    upscale_photograph,
)
from vlmbook.editing.quality import (
    HoleScores,
    first_features,
    luma_psnr,
    measure_inpainting,
    paired_difference,
    perceptual_distance,
    psnr,
    ssim,
)
from vlmbook.editing.resampling import (
    crop_to_multiple,
    enlarge_bicubic,
    rgb_to_ycbcr,
    shrink_bicubic,
    studio_luma,
    ycbcr_to_rgb,
)
from vlmbook.editing.style import (
    content_loss,
    gram_matrix,
    style_loss,
    style_transfer,
    total_variation,
)
from vlmbook.editing.superresolution import (
    SubPixelNetwork,
    cut_pairs,
    cut_squares,
    load_network,
    upscale,
    upscaler,
    upscaling_loss,
)
from vlmbook.editing.tiling import map_tiles, windows
from vlmbook.editing.training import AveragingAdam, train_denoiser, train_inpainter, train_upscaler

__all__ = [
    "AveragingAdam",
    "DenoisingNetwork",
    "GatedConv2d",
    "GatedUNet",
    "HoleScores",
    "Photograph",
    "SubPixelNetwork",
    "block_mask",
    "content_loss",
    "crop_to_multiple",
    "cut_pairs",
    "cut_squares",
    "denoise",
    "denoise_photograph",
    "denoiser",
    "denoising_loss",
    "draw_masks",
    "encode_photograph",
    "enlarge_bicubic",
    "estimate_noise",
    "fill_smoothly",
    "first_features",
    "free_form_mask",
    "gram_matrix",
    "inpaint",
    "inpaint_photograph",
    "inpainter",
    "inpainting_loss",
    "load_denoiser",
    "load_inpainter",
    "load_network",
    "luma_psnr",
    "map_tiles",
    "measure_inpainting",
    "paired_difference",
    "perceptual_distance",
    "psnr",
    "read_hole",
    "read_photograph",
    "rgb_to_ycbcr",
    "save_photograph",
    "shrink_bicubic",
    "ssim",
    "studio_luma",
    "style_loss",
    "style_transfer",
    "stylise_photograph",
    "total_variation",
    "train_denoiser",
    "train_inpainter",
    "train_upscaler",
    "upscale",
    "upscale_photograph",
    "upscaler",
    "upscaling_loss",
    "windows",
    "ycbcr_to_rgb",
]
