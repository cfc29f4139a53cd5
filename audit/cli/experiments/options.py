"""The options of `gcont-audit train`, by topic: both kinds of network take those that are theirs."""

from pathlib import Path
from typing import Annotated

import typer

from audit.cli.options import OUTPUT

WHAT, HOW = "What to train", "How to train it"
TOY, TRANSFORMER = "The toy MLP", "The transformer"

Names = Annotated[
    list[str] | None,
    typer.Option(
        "--ablation", metavar="NAME", help="One of --list; can be given again.", rich_help_panel=WHAT
    ),
]
Tables = Annotated[
    list[int] | None,
    typer.Option(
        "--table", metavar="1|2|3|4|5", help="All rows of one of the paper's tables.", rich_help_panel=WHAT
    ),
]
Figures = Annotated[
    list[int] | None,
    typer.Option(
        "--figure",
        metavar="1|2|12|13",
        help="The runs of one of the paper's figures; it is drawn, with its numbers, and what is trained "
        "already is not trained again.",
        rich_help_panel=WHAT,
    ),
]
All = Annotated[
    bool,
    typer.Option(
        "--all", metavar="", help="Every ablation; with --preset, of the transformer.", rich_help_panel=WHAT
    ),
]
Listing = Annotated[
    bool,
    typer.Option(
        "--list", metavar="", help="Show the ablations, and what each isolates.", rich_help_panel=WHAT
    ),
]
Seeds = Annotated[
    str | None,
    typer.Option(
        "--seeds",
        metavar="N",
        help="How many seeds, or which: 3, or 0,4,7. Default: 3; of a transformer 42 alone.",
        rich_help_panel=WHAT,
        show_default=False,
    ),
]
Dataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="NAME",
        help="Images: mnist, fashion-mnist, emnist-letters, svhn, cifar-10, cifar-100, or digits, which "
        "needs no download. Text: wikitext-103, wikitext-2, or stdlib, which needs none. Default: mnist, or "
        "the preset's.",
        rich_help_panel=WHAT,
        show_default=False,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Where the files are. Images: idx (.gz), npz or parquet. Text: train*.txt and valid*.txt (.gz, "
        ".xz). Default: from the Hub.",
        rich_help_panel=WHAT,
    ),
]
Beside = Annotated[
    list[Path] | None,
    typer.Option(
        "--beside",
        metavar="DIR",
        help="Runs on other images, for Figure 13 whenever it is drawn; can be given again.",
        rich_help_panel=TOY,
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        min=1, max=1 << 20, metavar="N", help="Images, or windows, a step. Default: 128.", rich_help_panel=HOW
    ),
]
Lr = Annotated[
    float | None,
    typer.Option(metavar="X", help="Adam's step size at most. Default: 0.001.", rich_help_panel=HOW),
]
Width = Annotated[
    int | None,
    typer.Option(min=2, max=1 << 15, metavar="N", help="Of the layers. Default: 256.", rich_help_panel=HOW),
]
Depth = Annotated[
    int | None,
    typer.Option(
        min=2, max=1000, metavar="N", help="Layers. Default: 16; of a transformer 8.", rich_help_panel=HOW
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        min=1, max=9999, metavar="N", help="Times through the images. Default: 20.", rich_help_panel=TOY
    ),
]
Readings = Annotated[
    list[str] | None,
    typer.Option(
        "--reading",
        metavar="NAME=ANSWER",
        help="What the paper leaves open, read otherwise than fits best; --list shows what there is. Can be "
        "given again.",
        rich_help_panel=TOY,
    ),
]
PresetName = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="paper: as published, a GPU's work, the default. small: its layers, on bytes, 1000 steps. tiny: "
        "width 64, a minute or two on 2 cores. Defaults here are those of paper.",
        rich_help_panel=TRANSFORMER,
        show_default=False,
    ),
]
TokenizerName = Annotated[
    str | None,
    typer.Option(
        "--tokenizer",
        metavar="NAME",
        help="bytes, gpt2 (from the Hub, the default), or a folder with vocab.json and merges.txt, or "
        "tokenizer.json.",
        rich_help_panel=TRANSFORMER,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(min=1, max=10**8, metavar="N", help="Updates. Default: 10000.", rich_help_panel=TRANSFORMER),
]
Every = Annotated[
    int | None,
    typer.Option(
        min=1, max=10**8, metavar="N", help="Steps between two measurements. Default: 500.",
        rich_help_panel=TRANSFORMER,
    ),
]  # fmt: skip
Sequence = Annotated[
    int | None,
    typer.Option(
        min=2, max=1 << 20, metavar="N", help="Tokens a window. Default: 128.", rich_help_panel=TRANSFORMER
    ),
]
Warmup = Annotated[
    int | None,
    typer.Option(
        min=0, max=10**8, metavar="N", help="Steps in which the rate rises. Default: a twentieth of all.",
        rich_help_panel=TRANSFORMER,
    ),
]  # fmt: skip
ScheduleName = Annotated[
    str | None,
    typer.Option(
        "--schedule",
        metavar="NAME",
        help="Of the rate after the warm-up: cosine, down to a tenth (the default), or constant.",
        rich_help_panel=TRANSFORMER,
    ),
]
WeightDecay = Annotated[
    float | None,
    typer.Option(metavar="X", help="Of matrices. Default: 0.1.", rich_help_panel=TRANSFORMER),
]
ClipNorm = Annotated[
    float | None,
    typer.Option(
        metavar="X", help="The gradient's norm at most; 0 for any. Default: 1.", rich_help_panel=TRANSFORMER
    ),
]
PrecisionName = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="NAME",
        help="fp32, or bf16 in products: the default on a GPU that has it.",
        rich_help_panel=TRANSFORMER,
    ),
]
MicroBatch = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Windows at a time, for less memory. Default: all; on a CPU 16.",
        rich_help_panel=TRANSFORMER,
    ),
]  # fmt: skip
Compile = Annotated[
    str | None,
    typer.Option(
        "--compile", metavar="on|off", help="torch.compile. Default: on a GPU.", rich_help_panel=TRANSFORMER
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Runs go to DIR/ABLATION-SEED, the report to DIR. Default: gcont-runs/DATASET, with -PRESET "
        "for a transformer.",
        rich_help_panel=OUTPUT,
    ),
]
Fresh = Annotated[
    bool,
    typer.Option(
        "--fresh", metavar="", help="Train again what is finished or begun.", rich_help_panel=OUTPUT
    ),
]
