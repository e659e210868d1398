"""The defects: for each a piece of the code or of a config, and what stands there instead."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Defect:
    """One change. `before` stands once in `file`; `after` takes its place."""

    name: str
    file: str
    before: str
    after: str

    def put_into(self, root: Path) -> None:
        """Change the file below a copy of the repository's root; raises `ValueError` where it has changed."""
        path = root / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.before) != 1:
            raise ValueError(
                f"{self.name}: {self.before!r} stands {text.count(self.before)} times in {self.file}"
            )
        path.write_text(text.replace(self.before, self.after), encoding="utf-8")


_EXEMPLARS = "dnr_bench/stages/exemplars.py"
_CONCEPTS = "dnr_bench/methods/describe_and_dissect/concepts.py"
_CONFIG = "conf/config.yaml"

DEFECTS = (
    Defect(
        "exemplars of the second tier",
        _EXEMPLARS,
        'np.argsort(-column, kind="stable")[:n]',
        'np.argsort(-column, kind="stable")[n : 2 * n]',
    ),
    Defect(
        "ties among exemplars turned round",
        _EXEMPLARS,
        'np.argsort(-column, kind="stable")[:n]',
        'len(column) - 1 - np.argsort(-column[::-1], kind="stable")[:n]',
    ),
    Defect(
        "crops shifted by half their width",
        _EXEMPLARS,
        "(x + left, y + top, x + w + left, y + h + top)",
        "(x + left + w // 2, y + top, x + w + left + w // 2, y + h + top)",
    ),
    Defect("no crops", _CONFIG, "crops_per_image: 4", "crops_per_image: 0"),
    Defect("three exemplars", _CONFIG, "  n: 10 # K", "  n: 3 # K"),
    Defect("blurred probing images", _CONFIG, "blur: 0.0 #", "blur: 1.0 #"),
    Defect(
        "captions of the neighboring neuron, one in ten",
        _CONCEPTS,
        "return {neuron: tuple(of_neuron) for neuron, of_neuron in zip(views, found, strict=True)}",
        "shifted = [found[i - 1] if i % 10 == 9 else own for i, own in enumerate(found)]\n"
        "        return {neuron: tuple(own) for neuron, own in zip(views, shifted, strict=True)}",
    ),
    Defect(
        "captioner sees red and blue exchanged",
        "dnr_bench/captioners/blip.py",
        "images=view.pixels, input",
        "images=view.pixels[..., ::-1].copy(), input",
    ),
    Defect("captions cut short", "conf/captioner/blip.yaml", "max_new_tokens: 20", "max_new_tokens: 6"),
    Defect("contrast with 20 captions", _CONFIG, "  n_images: 500 #", "  n_images: 20 #"),
    Defect("backgrounds without their color", _CONFIG, "heads: [background]", "heads: []"),
    Defect(
        "the first candidate dropped",
        "dnr_bench/summarizers/consensus.py",
        "self._ranked(Contrast(found, self.contrast.wording, vectors), of_neuron)[:n]",
        "self._ranked(Contrast(found, self.contrast.wording, vectors), of_neuron)[1 : n + 1]",
    ),
    Defect("one candidate less", _CONFIG, "n_candidates: 5 #", "n_candidates: 4 #"),
    Defect(
        "no disjunctions",
        "dnr_bench/summarizers/consensus.py",
        "return self._without_narrower([*self._disjunctions(contrast, phrases, order, support), *ranked])",
        "return self._without_narrower(ranked)",
    ),
    Defect(
        "every exemplar counts alike",
        "dnr_bench/statistics/contrast.py",
        "above: np.ndarray = np.maximum(values - (base + top) / 2, 0)",
        "above: np.ndarray = (values > (base + top) / 2).astype(float)",
    ),
    Defect(
        "another prompt template",
        _CONFIG,
        'prompt: "a realistic image of {concept}"',
        'prompt: "{concept} or circle"',
    ),
    Defect("images alone decide", "conf/scorer/posterior.yaml", "weight: 0.7 #", "weight: 1.0 #"),
    Defect(
        "activations of images in another order",
        "dnr_bench/stages/evidence.py",
        "activations[row, :n] = rendering.activations[neuron.layer][:, neuron.unit]",
        "activations[row, :n] = renderings[row - 1].activations[neuron.layer][:n, neuron.unit]",
    ),
    Defect(
        "ties go to the later candidate",
        "dnr_bench/methods/describe_and_dissect/candidates.py",
        'order = np.argsort(-scores, kind="stable")',
        'order = len(scores) - 1 - np.argsort(-scores[::-1], kind="stable")',
    ),
    Defect("beta is 1", "conf/scorer/topk_squared_image_products.yaml", "beta: 5", "beta: 1"),
)
