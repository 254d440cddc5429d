from __future__ import annotations

import copy
import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from oversight.errors import CheckpointError, ConfigError
from oversight.text.terminal import code_span
from oversight.train.runs import final
from oversight.train.runs.final import (
    FinalModel,
    check_before_training,
    check_weights,
    finish,
    tensor_hashes,
)
from oversight.train.runs.folder import RunFolder


@pytest.fixture
def run(about: Any, run_path: Path, make_toy: Any) -> RunFolder:
    folder = RunFolder(run_path, about())
    folder.resume(make_toy().state)
    for step, loss in ((1, 0.9), (2, 0.5), (3, 0.6)):
        folder.log(step, {"loss": loss, "accuracy": 1.0 - loss})
    folder.log(3, {"loss": 0.7}, "eval")
    folder.close()
    return folder


def ending(tokenizer: Any, **more: Any) -> FinalModel:
    return FinalModel(tokenizer, base_model="org/base`model", num_steps=3, **more)


@pytest.mark.parametrize("tied", [False, True])
def test_the_finished_folder_loads_with_weights_and_tokenizer(
    run: RunFolder, tiny_llama: Any, tiny_tokenizer: Any, tied: bool
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = tiny_llama(tie_word_embeddings=tied)
    path = finish(run, model, ending(tiny_tokenizer, probes=["of the data"]))
    assert path == run.path / "model"
    again = AutoModelForCausalLM.from_pretrained(path)
    assert tensor_hashes(again.state_dict()) == tensor_hashes(model.state_dict())
    assert again.generation_config.eos_token_id == tiny_tokenizer.eos_token_id
    tokenizer = AutoTokenizer.from_pretrained(path)
    assert tokenizer("the key, 東京").input_ids == tiny_tokenizer("the key, 東京").input_ids
    assert not list(path.glob("*.bin"))
    assert list(path.glob("*.safetensors"))
    assert not (run.path / ".model.part").exists()


def test_the_card_tells_data_recipe_metrics_and_versions(
    run: RunFolder, tiny_llama: Any, tiny_tokenizer: Any
) -> None:
    card = (finish(run, tiny_llama(), ending(tiny_tokenizer)) / "README.md").read_text()
    assert "Direct preference optimisation (Rafailov et al." in card
    assert "- Base model: `` org/base`model ``" in card
    assert "`source`: `made up`" in card
    assert "| train | `loss` | 0.9 | 0.6 | 0.5 | 2 |" in card
    assert "| train | `accuracy` | 0.1 | 0.4 | 0.5 | 2 |" in card
    assert "| eval | `loss` | 0.7 | 0.7 | 0.7 | 3 |" in card
    assert "lr = 0.001" in card
    assert f"`torch`: `{metadata.version('torch')}`" in card
    assert "Licence" in card


def test_foreign_text_stays_inside_its_code_span() -> None:
    assert code_span("a `b` ``c``\n# d") == "``` a `b` ``c`` # d ```"
    assert code_span("") == "`–`"


def test_a_reward_model_loads_as_one(run: RunFolder, tiny_llama: Any, tiny_tokenizer: Any) -> None:
    from transformers import AutoModelForSequenceClassification, LlamaForSequenceClassification

    config = tiny_llama().config
    config.num_labels = 1
    model = LlamaForSequenceClassification(config)
    again = AutoModelForSequenceClassification.from_pretrained(
        finish(run, model, ending(tiny_tokenizer))
    )
    assert again.config.pad_token_id == tiny_tokenizer.pad_token_id
    assert torch.equal(again.score.weight, model.score.weight)


@torch.no_grad()
def test_a_reward_model_whose_pad_is_its_eos_is_read_as_it_was_trained(
    run: RunFolder, tiny_llama: Any, tiny_tokenizer: Any
) -> None:
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        LlamaForSequenceClassification,
    )

    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    config = tiny_llama().config
    config.num_labels, config.pad_token_id = 1, tokenizer.eos_token_id
    model = LlamaForSequenceClassification(config).eval()
    rows = [
        [*tokenizer(text).input_ids, tokenizer.eos_token_id]
        for text in ("the key was here", "the key")
    ]
    trained = [
        float(model.score(model.model(torch.tensor([row])).last_hidden_state[0, -1]))
        for row in rows
    ]
    path = finish(run, model, ending(tokenizer))
    again = AutoModelForSequenceClassification.from_pretrained(path).eval()
    alone = [float(again(torch.tensor([row])).logits) for row in rows]
    assert alone == pytest.approx(trained, abs=1e-5)
    saved = AutoTokenizer.from_pretrained(path)
    assert saved.get_vocab() == tokenizer.get_vocab()
    if saved.pad_token is None:
        with pytest.raises(ValueError, match="no padding token"):
            again(torch.tensor([rows[0], rows[0]]))
    else:
        padded = saved.pad({"input_ids": rows}, return_tensors="pt")
        assert again(**padded).logits[:, 0].tolist() == pytest.approx(trained, abs=1e-5)


@pytest.mark.parametrize("merge", [True, False])
def test_an_adapter_is_saved_and_merged_if_asked(
    run: RunFolder, tiny_llama: Any, tiny_tokenizer: Any, tmp_path: Path, merge: bool
) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    base = tiny_llama()
    base.save_pretrained(tmp_path / "base")
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tmp_path / "base"),
        LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False),
    )
    ids = torch.arange(8)[None]
    with torch.no_grad():
        wanted = model.eval()(ids).logits
        plain = base(ids).logits
    path = finish(run, model, ending(tiny_tokenizer, merge=merge))
    adapter = path / "adapter" if merge else path
    assert {p.name for p in adapter.iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    loaded = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tmp_path / "base"), adapter
    )
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, wanted)
        if merge:
            merged = AutoModelForCausalLM.from_pretrained(path)(ids).logits
            assert torch.allclose(merged, wanted, atol=1e-4)
            assert not torch.allclose(merged, plain, atol=1e-2)


def word_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "<pad>", "<eos>", "t5", "e3", "went", "p7"]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>"
    )


def test_a_tokenizer_that_would_come_back_as_another_is_refused_before_training() -> None:
    from transformers import LlamaConfig, Qwen2Config

    check_before_training(word_tokenizer(), LlamaConfig(vocab_size=64), ["t5 e3"])
    with pytest.raises(ConfigError, match=r"'qwen2'.*would not come back.*was \[.*then \[\]"):
        check_before_training(word_tokenizer(), Qwen2Config(vocab_size=64))


def test_a_tokenizer_with_more_ids_than_embeddings_is_refused(tiny_tokenizer: Any) -> None:
    from transformers import LlamaConfig

    with pytest.raises(ConfigError, match="the model has 100 embeddings"):
        check_before_training(tiny_tokenizer, LlamaConfig(vocab_size=100))


def test_a_model_that_does_not_come_back_gets_no_name(
    run: RunFolder, tiny_llama: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = word_tokenizer()
    saved = type(broken).save_pretrained
    monkeypatch.setattr(
        type(broken), "save_pretrained", lambda self, path: saved(tiny_tokenizer, path)
    )
    with pytest.raises(CheckpointError, match="the tokenizer does not come back"):
        finish(run, tiny_llama(), ending(broken))
    assert not run.model_path.exists()
    assert not (run.path / ".model.part").exists()


def test_weights_that_changed_on_the_way_are_found(tiny_llama: Any, tmp_path: Path) -> None:
    model = tiny_llama()
    model.save_pretrained(tmp_path)
    hashes = tensor_hashes(model.state_dict())
    check_weights(tmp_path, "LlamaForCausalLM", hashes)
    file = tmp_path / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match="1 weights are not what was in memory"):
        check_weights(tmp_path, "LlamaForCausalLM", hashes)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["Other"]}))
    with pytest.raises(CheckpointError, match="architectures"):
        check_weights(tmp_path, "LlamaForCausalLM", hashes)


def test_hashes_tell_type_shape_and_every_bit() -> None:
    tensors = [torch.zeros(2), -torch.zeros(2), torch.zeros(1, 2), torch.zeros(2).half()]
    hashes = [tensor_hashes({"x": t})["x"] for t in [*tensors, torch.tensor(0.0)]]
    assert len(set(hashes)) == 5
    assert final.CARD == "README.md"
