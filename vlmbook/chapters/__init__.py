"""The book's chapters: one table, which the command line, the README, the tools and the tests read.

`vlmbook.chapters.ch03a` holds what belongs to one chapter alone: its exercises, its figures, its experiments.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from vlmbook import runtime

NOTEBOOKS = runtime.BOOK / "notebooks"


@dataclass(frozen=True)
class Chapter:
    """A notebook of the book, written or still to come."""

    name: str  # "ch03a", as a reader types it
    slug: str  # the rest of the file's name
    title: str
    title_zh: str
    section: str  # of the book
    modules: tuple[str, ...]  # of the package: what it teaches
    result: str  # what it shows, in a few words
    errata: tuple[str, ...]  # of the book, each treated in this notebook and in no other

    @property
    def stem(self) -> str:
        """The file's name without its ending, "ch03a_convolution_and_pooling"."""
        return f"{self.name}_{self.slug}"

    @property
    def notebook(self) -> Path:
        """Where the executed notebook lies."""
        return NOTEBOOKS / f"{self.stem}.ipynb"

    @property
    def text(self) -> Path:
        """Where its source lies, in jupytext's percent format."""
        return NOTEBOOKS / "text" / f"{self.stem}.py"


# fmt: off
TABLE = (
    Chapter("ch01", "from_features_to_networks", "From features to networks", "从特征到网络", "§1.1-1.3",
            ("features",), "hand-made features against learned ones on the same photographs",
            tuple("W42 M22 M23 M24 I36 I37 I38 I39 I62".split())),
    Chapter("ch02", "foundations", "Foundations", "视觉大模型基础", "§2.1, §2.2",
            ("multitask",), "data, depth, several tasks at once: what each of them buys, measured",
            tuple("M28 M29 M30 M31 M32 I40 I41 I63".split())),
    Chapter("ch03a", "convolution_and_pooling", "Convolution and pooling", "卷积与池化", "§2.2.1(1)",
            ("convolution",),
            "kernels on photographs, sizes and strides, the transposed convolution, a CNN in seconds",
            tuple("W01 W09 W10 W11 W12 I01 I02 I03 I04 I05".split())),
    Chapter("ch03b", "resnet", "ResNet", "残差网络", "§2.2.1(2)",
            ("resnet",), "why depth alone makes a network worse and the residual block does not",
            tuple("W08 W13 W35 W43 M02 I06".split())),
    Chapter("ch03c", "unet", "U-Net", "U-Net 与图像分割", "§2.2.1(3)",
            ("unet",), "segmentation, and what the skip connections carry",
            tuple("W14 W36 W37 W38".split())),
    Chapter("ch04a", "gan", "GAN", "生成对抗网络", "§2.2.2(1)",
            ("gan", "generation", "pixel_models"), "generator against discriminator, and how the game fails",
            tuple("W07 W18 W40 M01 M03 M21 I10".split())),
    Chapter("ch04b", "vae", "VAE", "变分自编码器", "§2.2.2(2)",
            ("vae", "generation", "pixel_models"), "a latent space to walk in, reconstruction against KL",
            tuple("W04 W05 W06 W19 I07 I08 I09".split())),
    Chapter("ch04c", "gpt", "GPT", "自回归图像生成", "§2.2.2(3)",
            ("gpt", "generation", "pixel_models"), "an image written pixel by pixel, the causal mask tested",
            tuple("W16 W17 W39 M26 I11 I12".split())),
    Chapter("ch04d", "flow_matching", "Flow matching", "流匹配与扩散模型", "§2.2.2, omitted there",
            ("flow",), "a path from noise to an image: the generator that the book forgot",
            ("M25",)),
    Chapter("ch05a", "classification_and_detection", "Classification and detection", "分类与目标检测",
            "§2.2.3(1)", ("detection",), "boxes, anchors, non-maximum suppression, average precision by hand",
            tuple("W15 W32 I13 I14 I15 I16 I17 I18".split())),
    Chapter("ch05b", "attention", "Attention", "注意力机制与视觉 Transformer", "§2.2.3(2), (4)",
            ("attention",), "queries, keys and values, and a vision transformer that looks",
            tuple("W02 M27 I19 I20 I21 I22 I23".split())),
    Chapter("ch05c", "distillation", "Distillation", "知识蒸馏", "§2.2.3(3)",
            ("distillation",), "a small network taught by a large one, temperature by temperature",
            tuple("W03 M04 I24 I61".split())),
    Chapter("ch06a", "face_recognition", "Face recognition", "人脸识别系统", "§6.1",
            ("face_recognition",), "a system from detection to matching, its errors and its threshold",
            tuple("W29 W30 W31 M05 M06 M09 M10 M11 M12 M13 M38 I25 I35".split())),
    Chapter("ch06b", "image_generation_and_editing", "Image generation and editing", "图像生成与编辑", "§6.2",
            ("editing",), "inpainting, super-resolution and style, judged by numbers",
            tuple("M14 M15 M16 I26 I27".split())),
    Chapter("ch07a", "efficiency", "Efficiency", "计算效率", "§7.1(1), (4), §7.2(5)",
            ("compression",), "what a model costs, and what quantisation, pruning and folding save, measured",
            tuple("W34 M17 M19 I29".split())),
    Chapter("ch07b", "trust", "Trust", "隐私、公平与可解释性", "§7.1(2), (3), (5), §7.2(4)",
            ("privacy", "fairness", "explain"),
            "privacy, fairness and explanation, each attacked and measured",
            tuple("M18 I28".split())),
    Chapter("ch07c", "learning_from_little", "Learning from little", "小样本与多模态学习", "§7.2(1)-(3), §8",
            ("fewshot", "clip"), "few shots, zero shots, and images met with text",
            tuple("W33 M20 I30 I31".split())),
    Chapter("appendix_a", "frameworks", "Frameworks", "常用框架", "App. A",
            (), "the book's snippets run, and mended",
            tuple("W20 W21 W22 W23 W24 W25 M07 M08 I42 I43 I44 I45 I46 I47 I48 I49".split())),
    Chapter("appendix_b", "datasets", "Data sets", "相关数据集", "App. B",
            (), "the book's figures held against the sources",
            tuple("W44 W45 W46 W47 W48 W49 W50 W51 M33 M34 I50 I51 I52 I53 I54".split())),
    Chapter("appendix_c", "tools", "Tools", "常用工具", "App. C",
            (), "the book's tools tried on one photograph",
            tuple("W26 W27 W28 M35 M36 I55 I56 I57 I58 I59".split())),
    Chapter("errata", "and_references", "Errata and references", "勘误与参考文献", "References",
            (), "every erratum in one place, and references that exist",
            tuple("W41 W52 W53 W54 W55 W56 W57 W58 M37 I32 I33 I34 I60".split())),
)
# fmt: on


def begun() -> list[Chapter]:
    """-> list of Chapter: those of which the notebook or its text is there, in the order of the book."""
    return [chapter for chapter in TABLE if chapter.notebook.exists() or chapter.text.exists()]


def written() -> list[Chapter]:
    """-> list of Chapter: those whose notebook is there, in the order of the book."""
    return [chapter for chapter in TABLE if chapter.notebook.exists()]


def find(name: str) -> Chapter:
    """str -> Chapter whose notebook is there: "ch03a", or its file's name. ValueError lists those there
    are.
    """
    there = written()
    for chapter in there:
        if name in (chapter.name, chapter.stem, chapter.notebook.name):
            return chapter
    names = ", ".join(chapter.name for chapter in there) or "none"
    raise ValueError(f"there is no chapter {name!r}; there are {names}")


def of_file(path: str | Path) -> Chapter | None:
    """Path -> Chapter whose name the file bears, whatever follows it, "ch03a_anna.ipynb"; None for another
    file.
    """
    stem = Path(path).name.partition(".")[0]
    for chapter in TABLE:
        if re.match(rf"{chapter.name}(?![0-9a-z])", stem):
            return chapter
    return None
