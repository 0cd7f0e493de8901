"""The explanation methods as the report names them: how to read each, what its cards say, how its maps are coloured."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Method:
    """An explanation method: a row here is all that its gallery needs."""

    title: str
    script: str  # with the flags that choose the method, if there are any
    how_to_read: str
    facts: dict[str, str] = field(default_factory=dict)  # of each face in the summary: key → name on the card
    signed: bool = False  # positive speaks for the class, negative against it; else from 0 up
    summed: bool = False  # attributions of the pixels add up, and are shown as sums over blocks
    expected: bool = False  # of every run; a method that is not is left out where no run has it


METHODS = {
    "lime": Method(
        "LIME",
        "explain_lime.py",
        "Hides random sets of regions and fits a linear model to what that does to the probability of the class: "
        "vermilion regions speak for the class, blue ones against it. "
        "R² says how well the linear model follows the network; where it is low, trust the regions little.",
        facts={"r2": "R²"},
        expected=True,
        signed=True,
    ),
    "shap": Method(
        "SHAP",
        "explain_shap.py",
        "Shares out, among the pixels, by how much the logit of the class exceeds its mean over background faces: "
        "vermilion pixels raise it, blue ones lower it. "
        "The completeness gap is what their sum misses; where it is large, draw more samples.",
        facts={"logit_above_background": "logit above background", "completeness_gap": "completeness gap"},
        expected=True,
        signed=True,
        summed=True,
    ),
    "gradcam": Method(
        "Grad-CAM",
        "explain_gradcam.py --method gradcam",
        "Yellow cells of the last layer speak for the class, dark ones do not; nothing is said of evidence against it. "
        "It is coarse, a cell may draw on a larger part of the face than it covers, and the averaging of gradients can "
        "light up cells that the network did not use.",
    ),
    "gradcam_plus_plus": Method(
        "Grad-CAM++",
        "explain_gradcam.py --method gradcam++",
        "As Grad-CAM, but cells that raise the class count more than those that lower it, so that several small places "
        "stand out beside one large one.",
    ),
    "hirescam": Method(
        "HiResCAM",
        "explain_gradcam.py --method hirescam",
        "As Grad-CAM without the averaging: a yellow cell is one whose own activation raises the class. "
        "Exact where the layer feeds a linear one.",
    ),
    "layercam": Method(
        "LayerCAM",
        "explain_gradcam.py --method layercam",
        "As HiResCAM, but what lowers the class is left out before the channels are added up; "
        "it is of use in earlier, finer layers too.",
    ),
    "eigencam": Method(
        "Eigen-CAM",
        "explain_gradcam.py --method eigencam",
        "Where the cells of the last layer differ most from one another. It is the same for every class: it shows what "
        "the network notices, not why it decides.",
    ),
    "scorecam": Method(
        "Score-CAM",
        "explain_gradcam.py --method scorecam",
        "Hides the face behind each channel of the last layer and weighs the channels by the logit of the class, "
        "without any gradient. What is hidden turns black, which no training face looks like.",
    ),
    "saliency": Method(
        "Saliency",
        "explain_saliency.py --method saliency",
        "Yellow pixels are those where a slight change moves the logit most, whichever way. "
        "That is sensitivity, not evidence, and it is noisy.",
    ),
    "loss_gradient": Method(
        "Loss gradient",
        "explain_saliency.py --method loss_gradient",
        "As saliency, for the training loss, which all classes share in; each face is scaled to its own peak.",
    ),
    "smoothgrad": Method(
        "SmoothGrad",
        "explain_saliency.py --method smoothgrad",
        "Saliency averaged over copies of the face with noise: what remains matters nearby too. "
        "Where few copies keep the class, the noise asks the network about other faces; take less of it.",
        facts={"class_kept": "copies that keep the class"},
    ),
    "input_x_gradient": Method(
        "Input × gradient",
        "explain_saliency.py --method input_x_gradient",
        "Vermilion pixels raise the logit beside black ones, blue ones lower it, were the network linear. "
        "Dark pixels get little by construction.",
        signed=True,
        summed=True,
    ),
    "integrated_gradients": Method(
        "Integrated gradients",
        "explain_saliency.py --method integrated_gradients",
        "Shares out, among the pixels, by how much the logit exceeds that of a plain face: vermilion pixels raise it, "
        "blue ones lower it. Pixels as grey as that face get nothing. "
        "The completeness gap is what the sum misses; where it is large, take more steps.",
        facts={"logit_above_baseline": "logit above baseline", "completeness_gap": "completeness gap"},
        signed=True,
        summed=True,
    ),
    "guided_backprop": Method(
        "Guided backpropagation",
        "explain_saliency.py --method guided_backprop",
        "Saliency in which only what is positive passes back through each ReLU: sharp, but close to an edge detector "
        "that would look much the same for another class.",
    ),
    "occlusion": Method(
        "Occlusion",
        "explain_occlusion.py",
        "How far the probability of the class falls where a grey square hides the face: hiding vermilion parts lowers "
        "it, hiding blue ones raises it. Evidence that stands in two places at once hides itself.",
        facts={"largest_fall": "largest fall"},
        signed=True,
    ),
}
