"""The classes, and the flags of every stage, one frozen dataclass each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ferlib.runtime.errors import UserError
from ferlib.runtime.runs import OF_FOLDS, Run, slug
from recipes import Recipe

EMOTIONS = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")


# ── flags ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Flags that every stage shares."""

    model: str = "mini_resnet"  # a row of models.MODELS
    dataset: str = "synthetic"  # a row of ferlib.data.facts.DATASETS, or folder:PATH
    tag: str = ""  # last part of the run's name, for several runs of one model on one data set
    data_dir: Path = Path("data")  # folder that holds the data sets
    outputs_dir: Path = Path("outputs")  # folder that every stage writes to
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"  # auto: cuda where there is one, then mps, then cpu
    amp: bool = True  # reduced precision where the processor has it; --no-amp: float32 throughout
    seed: int = 0  # of all random numbers
    fold: int = 0  # of a data set that is split by subject: the fold, from 1, whose subjects are the test split

    @property
    def run(self) -> Run:
        """UserError for a name that a file cannot have: two of them would share their files."""
        for name, value in (("model", self.model.removeprefix("timm/")), ("tag", self.tag)):
            if value != slug(value):
                raise UserError(f"--{name} {value!r}: a name is made of letters, digits, ., +, - and _")
        if OF_FOLDS.search(self.tag):
            raise UserError(f"--tag {self.tag}: that is the name of a fold's files; use --fold, or another tag")
        return Run(self.model, self.dataset, self.tag, self.outputs_dir, self.fold, self.data_dir)


@dataclass(frozen=True, kw_only=True)
class EngineFlags:
    """Flags of the stages that compute many forward passes."""

    engine: Literal["auto", "torch", "openvino"] = "auto"  # of forward passes; auto: OpenVINO for long runs on CPUs
    precision: Literal["auto", "float32", "bfloat16", "int8"] = "auto"  # auto: bfloat16 where the device has it
    max_flips: float = 0.005  # of --precision int8: share of the val faces whose predicted class may change


@dataclass(frozen=True, kw_only=True)
class DrawingStage(Stage):
    """Flags of the stages that draw pictures."""

    format: tuple[Literal["png", "pdf", "svg"], ...] = ("png",)  # of pictures; a PNG is always written, the rest beside


# flags that, beside the recipe, decide the weights
RUN_SETTINGS = ("init_from", "image_size", "max_steps", "teacher", "teacher_views", "exclude_leaks")
LATER_SETTINGS = {"exclude_leaks": False}  # of them, those that earlier versions had not, and what they did instead


@dataclass(frozen=True, kw_only=True)
class TrainingStage(DrawingStage):
    """Flags of the stages that train."""

    recipe: str = ""  # a row of recipes.RECIPES, from which the settings start; default: the model's own
    init_from: str = ""  # name of a run, such as fer_resnet_rafdb, whose backbone to start from; the head is new
    image_size: int | None = None  # side in pixels of the faces that the model takes; default: the model's own
    max_steps: int | None = None  # largest number of steps in an epoch; for trying things
    teacher: tuple[str, ...] = ()  # runs whose mean probabilities are learned too: MODEL, MODEL:TAG or a checkpoint
    teacher_views: Literal["single", "flip", "five_crop", "ten_crop"] = "flip"  # of each face, for the teachers
    exclude_leaks: bool = False  # leave out the training faces that stand in val or test, near copies too
    settings: Annotated[Recipe, tyro.conf.arg(name="")] = field(default_factory=Recipe)

    def beside_recipe(self) -> dict[str, Any]:
        """The values of RUN_SETTINGS as JSON has them."""
        values = {name: getattr(self, name) for name in RUN_SETTINGS}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class Train(TrainingStage):
    """Train a model: python train.py --model resnet50 --dataset fer2013"""

    all: bool = False  # train every model of the zoo, one after the other
    all_folds: bool = False  # train on every fold of a data set that is split by subject, one after the other
    resume: bool = False  # go on from the last checkpoint
    compile: bool = False  # torch.compile; pays off on runs of more than a few minutes
    snapshots: bool = False  # with --schedule warm_restarts: also keep the weights at the end of every cycle
    max_gpu_temp: float | None = None  # °C of the GPU above which training waits until it is 3 cooler


@dataclass(frozen=True, kw_only=True)
class Evaluate(EngineFlags, DrawingStage):
    """Score the best checkpoint on the test split: python evaluate.py --model resnet50 --dataset fer2013"""

    checkpoint: Path | None = None  # file or shipped network to score instead of the run's best checkpoint
    all_folds: bool = False  # score every fold's run of a data set that is split by subject, and all together
    on: tuple[str, ...] = ()  # other data sets on whose test faces to score the run instead
    compare: tuple[str, ...] = ()  # runs that evaluate.py scored, MODEL or MODEL:TAG, or all, to compare instead
    split: Literal["train", "val", "test"] = "test"  # val and train are scored and printed; only test is saved
    views: Literal["single", "flip", "five_crop", "ten_crop"] = "single"  # of each face, probabilities averaged
    compare_views: bool = False  # also score the other kinds of views
    calibrate: bool = False  # keep the temperature beside --checkpoint too, for predict.py, live.py and app.py
    batch_size: int = 256  # faces per forward pass
    figures: bool = True  # draw the plots; --no-figures: results and predictions only


@dataclass(frozen=True, kw_only=True)
class Export(Stage):
    """Ship a run in half precision with its card: python export.py --model fer_resnet_wide --dataset fer2013"""

    pretrained_dir: Path = Path("pretrained")  # folder for weights and card
    replace: bool = False  # write over a network of the same name that lies there


@dataclass(frozen=True, kw_only=True)
class Explain(DrawingStage):
    """Flags that the explain_* stages share; ferlib.explanations.flags adds one for every setting of a method."""

    checkpoint: Path | None = None  # file or shipped network to explain instead of the run's best
    samples: int | Literal["all"] = 20  # faces of the test split, the same for every method, balanced over the classes
    only: str = ""  # faces of the test split to choose from: wrong, right, or a true class
    indices: tuple[int, ...] = ()  # faces of the test split, instead of --samples
    image: tuple[Path, ...] = ()  # pictures of one face each, instead of the test split
    target: str = "predicted"  # the class to explain: predicted, true, runner-up, or a class
    against: str = ""  # class that the target is compared with: runner-up, predicted, true, or a class
    batch_size: int = 64  # images in a pass through the network
    figures: bool = True  # draw a figure of every face


@dataclass(frozen=True, kw_only=True)
class Score(Explain, EngineFlags):
    """Score explanations: python score_explanations.py --model fer_resnet --dataset fer2013 --samples 100"""

    methods: tuple[str, ...] = ()  # to score: names as in predict.py --explain; default: all
    samples: int | Literal["all"] = 100  # faces of the test split, balanced over the classes
    stability_faces: int = 10  # of them, whose maps are made again with other seeds, fills, regions and noise
    sanity_faces: int = 5  # of them, whose maps are made again with layers at random
    baseline: str = "grey"  # what hides pixels and regions: grey, mean, blur, black, or a number in 0..1
    permuted_labels: bool = False  # of synthetic: also compare with a network that learned permuted labels by heart
    clever_hans: bool = False  # of synthetic: instead, test whether maps expose a network that learned a shortcut
    shortcut: Literal["patch", "caption", "tint"] = "patch"  # with --clever-hans: what class Sad carries in training


@dataclass(frozen=True, kw_only=True)
class Ensemble(DrawingStage):
    """Join runs: python ensemble.py --dataset fer2013 --members resnet50 fer_vgg fer_resnet:seed1 --tag three"""

    model: str = "ensemble"  # the name under which the result is saved
    members: tuple[str, ...] = ()  # MODEL or MODEL:TAG, with @last or @cycle2 for another checkpoint; or all
    method: Literal["auto", "mean", "logits", "geometric", "vote", "weighted", "greedy"] = "auto"  # auto: best on val
    batch_size: int = 256  # faces per forward pass, of members with @
    figures: bool = True  # draw the plots; --no-figures: results and predictions only


@dataclass(frozen=True, kw_only=True)
class Report:
    """One HTML page on all runs of a data set: python report_generator.py --dataset fer2013"""

    dataset: str = "synthetic"  # a row of ferlib.data.facts.DATASETS, or folder:PATH
    all: bool = False  # one page over all data sets that have runs
    format: tuple[Literal["html", "md", "csv", "latex"], ...] = ("html",)  # one or several
    outputs_dir: Path = Path("outputs")  # folder that the stages wrote to


@dataclass(frozen=True, kw_only=True)
class FaceModelChoice(EngineFlags):
    """Flags that name the network for photos and videos."""

    model: str = ""  # with --dataset, the best checkpoint of a run; default: the shipped one
    dataset: str = ""  # data set of that run
    tag: str = ""  # tag of that run
    checkpoint: Path | None = None  # a file instead of a run's best, or a shipped network: fer2013
    outputs_dir: Path = Path("outputs")  # folder that every stage writes to
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"  # auto: cuda where there is one, then mps, then cpu


@dataclass(frozen=True, kw_only=True)
class Detection:
    """Flags of the face detector."""

    detector: Literal["auto", "yunet", "retinaface", "haar"] = "auto"  # auto: YuNet, or Haar without YuNet's weights
    detector_weights: Path | None = None  # a file instead of the cached or downloaded one


@dataclass(frozen=True, kw_only=True)
class Live(Detection, FaceModelChoice):
    """Predict the expressions of a camera or a video, live: python live.py --source film.mp4 --output out.mp4"""

    source: str = "0"  # camera (number or device), video file, folder of pictures, or address of a video or stream
    output: Path | None = None  # the annotated video: .mp4, .avi, .gif or .webp; the timeline is saved beside it
    csv: Path | None = None  # a line for every face of every frame
    jsonl: Path | None = None  # the same as JSON lines
    window: bool = True  # show the frames, where OpenCV has windows and there is a screen; q ends it, r names regions
    cam: bool = True  # HiResCAM over every face; --no-cam is faster
    smoothing: float = 0.3  # time constant in seconds of the exponential smoothing of probabilities; 0: none
    seconds: float | None = None  # time of the source at which to end; default: its end
    regions: float = 0.0  # seconds of the source between namings of each face's strongest regions; 0: by key r alone
    profile: bool = False  # print the time that each stage takes
    detection_side: int | None = None  # longer side in pixels to which larger frames are scaled; 640, of haar 320


@dataclass(frozen=True, kw_only=True)
class Monitor:
    """Show the NVIDIA GPUs, live: python monitor.py --interval 2 --max-temp 83"""

    interval: float = 2.0  # seconds between readings
    max_temp: float = 83.0  # degrees Celsius above which a warning is printed
    log: Path = Path("outputs/logs/gpu.csv")  # CSV file to which every reading is appended
    readings: int | None = None  # stop after so many; default: until ctrl-C


@dataclass(frozen=True, kw_only=True)
class App(EngineFlags, Detection):
    """A web page for photos and the webcam: python app.py --port 7860"""

    host: str = "127.0.0.1"  # address to serve on: this computer only; 0.0.0.0: every computer in its network
    port: int = 7860  # if it is in use, the next free one is taken
    open: bool = False  # open the page in a browser
    checkpoint: Path | None = None  # file or shipped network that is chosen at first; default: fer2013
    max_upload_mb: float = 20.0  # largest file in MiB
    max_pixels: int = 50_000_000  # largest picture
    keep_seconds: int = 600  # time after which an upload is deleted and its result forgotten
    outputs_dir: Path = Path("outputs")  # folder of the trained runs, which the page offers as models
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"  # auto: cuda where there is one, then mps, then cpu


@dataclass(frozen=True, kw_only=True)
class Zoo:
    """Print every model with its facts: python models.py --timm convnext_tiny swin_tiny_patch4_window7_224"""

    timm: tuple[str, ...] = ()  # backbones of timm to list too
    speed: bool = True  # faces per second in evaluation, on this machine
    batch_size: int = 8  # faces per forward pass
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"  # auto: cuda where there is one, then mps, then cpu


@dataclass(frozen=True, kw_only=True)
class Predict(Detection, FaceModelChoice):
    """Predict the expressions of the faces in photos: python predict.py photo.jpg --explain regions"""

    images: tyro.conf.Positional[tuple[Path, ...]]  # photos, and folders of photos
    min_score: float | None = None  # score in 0..1 below which detections are dropped; default: the detector's own
    whole: bool = False  # each picture is one face, cropped as the training faces are; none is detected
    explain: str = ""  # method whose map is drawn over each face: regions, lime, shap, hirescam, …
    target: str = ""  # the expression that is explained; default: each face's predicted one
    own_scale: bool = False  # colours of each face's map reach to its own peak, instead of that of all faces
    json: Path | None = None  # write all predictions to this file
    csv: Path | None = None  # likewise, a line for each face
    figures: bool = True  # save annotated pictures in outputs/predictions


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Audit a data set: counts, copies, leaks, pictures, labels: python datasets.py --dataset fer2013"""

    dataset: str = "synthetic"  # a row of ferlib.data.facts.DATASETS, or folder:PATH
    data_dir: Path = Path("data")  # folder that holds the data sets
    outputs_dir: Path = Path("outputs")  # folder for the cache and the audit
    fold: int = 0  # of a data set that is split by subject: the fold, from 1, whose subjects are the test split
    run: str = ""  # MODEL or MODEL:TAG, whose predictions rank likely label errors; default: the best on val
    exclude_leaks: bool = False  # audit the set as train.py --exclude-leaks uses it
    strict: bool = False  # exit with code 1 where something invalidates results
    figures: bool = True  # draw the sheets; --no-figures: JSON and text only
    format: tuple[Literal["png", "pdf", "svg"], ...] = ("png",)  # of pictures; a PNG is always written, the rest beside


@dataclass(frozen=True, kw_only=True)
class Tune(TrainingStage):
    """Search settings: python tune.py --preset vgg_paper, or --search lr=1e-3..1e-1:log batch_size=64,128"""

    preset: str = ""  # a row of ferlib.training.search.presets.PRESETS, which single flags then change
    study: str = ""  # name of the study; default: the preset's or the run's
    search: tuple[str, ...] = ()  # settings to search: optimizer=sgd,adam, lr=1e-4..1e-1:log, batch_size=64..256
    sampler: Literal["tpe", "grid"] = "tpe"  # how the settings of the next trial are chosen
    trials: int | None = None  # of the whole study; default: every point of the grid, or 30; 0: only table and plots
    workers: int = 1  # processes on this machine; further terminals may join with the same command
    storage: str = ""  # URL of a database for machines to share, postgresql+psycopg://…; default: SQLite in the folder
    pruner: Literal["median", "none"] = "median"  # median: stop a trial whose best is below the others' at that epoch
    keep_checkpoints: bool = False  # of every trial; default: of the best one

    @property
    def folder(self) -> Path:
        """Where everything of the study lies."""
        return Path(self.outputs_dir) / "tuning" / self.study
