"""MILAN: one beam for several images against their own likelihoods, priors, and the reranking by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from dnr_bench.app.run import RunConfig, run
from dnr_bench.captioners.likelihoods import BlipLikelihoods, LanguageModelPrior, reranked
from dnr_bench.captioners.together import Together
from dnr_bench.data.images import View
from dnr_bench.infra.errors import UsageError
from dnr_bench.shapes.render import render, sample_scene
from tests.helpers.small_models import SmallModels

BuildRun = Callable[..., RunConfig]


def views_of(*attributes: str) -> list[View]:
    from dnr_bench.shapes.concepts import Concept

    rng = np.random.default_rng(0)
    return [View.of(render(sample_scene(rng, Concept.of([attribute])))) for attribute in attributes]


def embedded() -> BlipLikelihoods:
    return BlipLikelihoods("embedded:captioner", 20, "cpu", "float32", 64)


def log_likelihood(describer: BlipLikelihoods, view: View, text: str) -> float:
    """log p(text | one image), token by token."""
    blip = describer._blip()
    found = blip.processor.image_processor(
        images=view.pixels, input_data_format="channels_last", return_tensors="pt"
    )
    seen = blip.model.vision_model(found["pixel_values"])[0]
    tokens = blip.processor.tokenizer(text, return_tensors="pt")["input_ids"]
    tokens[:, 0] = blip.model.config.text_config.bos_token_id
    with torch.inference_mode():
        logits = blip.model.text_decoder(input_ids=tokens, encoder_hidden_states=seen).logits
        log = torch.log_softmax(logits[0, :-1].float(), dim=-1)
    return float(log.gather(1, tokens[0, 1:, None]).sum())


def test_the_score_of_a_description_is_its_mean_log_likelihood_over_the_images() -> None:
    describer, views = embedded(), views_of("red", "red", "blue")
    found = describer.likeliest(views, 8)
    assert len(found) > 3
    assert len({text for text, _ in found}) == len(found)
    assert [value for _, value in found] == sorted((value for _, value in found), reverse=True)
    for text, value in found[:4]:
        own = np.mean([log_likelihood(describer, view, text) for view in views])
        assert value == pytest.approx(own, abs=0.02)


def test_one_image_alone_gets_its_own_caption() -> None:
    describer, (view,) = embedded(), views_of("striped")
    best = describer.likeliest([view], 5)[0][0]
    assert "striped" in best
    assert len(best.split()) > 4  # the whole scene


def test_all_rows_of_a_beam_get_the_mean_of_their_images() -> None:
    scores = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 9.0]])  # two images of two beams
    mixed = Together(2)(torch.zeros(4, 1, dtype=torch.long), scores)
    assert mixed.tolist() == [[2.0, 3.0], [4.0, 6.0], [2.0, 3.0], [4.0, 6.0]]


def test_a_prior_takes_away_what_is_likely_anyway() -> None:
    likely = [("a picture", -2.0), ("a red ring", -3.0), ("ring", -2.5)]
    assert reranked(likely, [-1.0, -20.0, -4.0], 0.2) == [
        ("a red ring", pytest.approx(1.0)),
        ("ring", pytest.approx(-1.7)),
        ("a picture", pytest.approx(-1.8)),
    ]
    assert [text for text, _ in reranked(likely, [-1.0, -20.0, -4.0], 0.0)] == [
        "a picture",
        "ring",
        "a red ring",
    ]


def test_priors_are_sums_over_tokens_whatever_shares_the_batch(small: SmallModels) -> None:
    prior = LanguageModelPrior(small.llama, "cpu", "float32", 8)
    texts = ["a red ring", "a very much longer text about a striped square"]
    together, alone = prior.log_priors(texts), [prior.log_priors([text])[0] for text in texts]
    assert together == pytest.approx(alone, abs=1e-4)
    assert together[1] < together[0] < 0
    describer = embedded()
    own = describer.log_priors(["a red striped ring on a blue background", "ring ring ring"])
    assert own[0] > own[1]  # the decoder knows how captions are worded
    assert describer.log_priors(["ring ring ring"]) == pytest.approx([own[1]], abs=1e-4)


@pytest.mark.slow
def test_descriptions_name_what_all_exemplars_show(small_run: BuildRun, small: SmallModels) -> None:
    words = ("method=milan", "evaluator=[planted]", "neurons.units=[0,9,27,60]", "method.beam=12")
    result = run(small_run(*words))
    by_name = {neuron.name: neuron.labels for neuron in result.neurons}
    assert "red" in by_name["concepts:0"][0].split()
    assert by_name["concepts:60"] == ()
    assert result.metrics["planted.attribute_f1"].mean > 0.3
    another = run(small_run(*words, "text_prior=language_model", f"text_prior.checkpoint={small.llama}"))
    assert [n.score for n in another.neurons] != [n.score for n in result.neurons]


def test_one_beam_is_none(small_run: BuildRun) -> None:
    with pytest.raises(UsageError, match=r"method\.beam=1"):
        small_run("method=milan", "method.beam=1", "evaluator=[]")


def test_other_models_are_refused(small: SmallModels) -> None:
    with pytest.raises(UsageError, match="not 'blip'"):
        BlipLikelihoods(small.llama, 20, "cpu", "float32", 64)
    with pytest.raises(UsageError, match="is no causal language model"):
        LanguageModelPrior("embedded:judge", "cpu", "float32", 8).log_priors(["ring"])
