"""The sizes that make a model of each type tiny: by the names of fields, and a type at a time."""

from __future__ import annotations

from typing import Any

import transformers

VOCAB = 384
WINDOW = 16
SWITCH = 32
"""Tokens behind which angles of a model with two regimes change."""
PAD, BOS, EOS = 0, 1, 2
FIRST_ID = 5
"""Ids of rows begin here: none is padding, or ends a text."""

# Field -> value, wherever a configuration has the field and it is no None.
SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "emb_dim", "embedding_dim"), 64),
    **dict.fromkeys(("embedding_size", "word_embed_proj_dim", "attention_hidden_size"), 64),
    **dict.fromkeys(("lru_width", "pooler_hidden_size", "input_embedding_size"), 64),
    **dict.fromkeys(
        ("output_embedding_size", "hidden_size_per_layer_input", "true_hidden_size"), 64
    ),
    **dict.fromkeys(("intermediate_size", "intermediate_size_mlp", "d_ff", "d_inner", "dff"), 96),
    **dict.fromkeys(("ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "dim_ff", "hidden_dim"), 96),
    **dict.fromkeys(("ffn_hidden_size", "dense_intermediate_size", "feed_forward_size"), 96),
    **dict.fromkeys(("moe_intermediate_size", "expert_ffn_hidden_size"), 32),
    **dict.fromkeys(("shared_expert_intermediate_size", "shared_intermediate_size"), 32),
    **dict.fromkeys(("moe_shared_expert_intermediate_size", "router_hidden_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_blocks"), 2),
    **dict.fromkeys(("decoder_layers", "encoder_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(("num_encoder_layers", "num_layers_per_stack"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads", "attention_heads"), 4),
    **dict.fromkeys(("num_decoder_attention_heads", "num_encoder_attention_heads"), 4),
    **dict.fromkeys(("swa_num_attention_heads", "num_query_groups"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads"), 2),
    **dict.fromkeys(("head_dim", "d_head", "d_kv", "dim_head", "attention_head_size"), 16),
    **dict.fromkeys(("kv_channels", "swa_head_dim", "global_head_dim", "v_head_dim"), 16),
    **dict.fromkeys(("linear_head_dim", "linear_key_head_dim", "linear_value_head_dim"), 16),
    **dict.fromkeys(("qk_nope_head_dim", "attention_head_dim"), 16),
    "qk_rope_head_dim": 16,
    "rotary_dim": 8,
    "qk_head_dim": 32,
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank", "o_lora_rank", "hc_lowrank"), 24),
    **dict.fromkeys(("adapter_rank", "laurel_rank"), 8),
    **dict.fromkeys(("linear_num_heads", "linear_num_value_heads"), 4),
    "linear_num_key_heads": 2,
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k"), 2),
    **dict.fromkeys(("n_group", "num_expert_group", "topk_group", "n_shared_experts"), 1),
    **dict.fromkeys(("moe_num_shared_experts", "zero_expert_num", "o_groups"), 1),
    **dict.fromkeys(("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index"), 1),
    **dict.fromkeys(("mamba_d_state", "ssm_state_size", "state_size"), 8),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "mamba_headdim"), 16),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "n_mamba_heads"), 8),
    **dict.fromkeys(("mamba_dt_rank", "time_step_rank"), 4),
    **dict.fromkeys(("mamba_chunk_size", "chunk_size"), 16),
    **dict.fromkeys(("index_n_heads",), 2),
    "index_head_dim": 16,
    "index_topk": 16,
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input", "decoder_vocab_size"), VOCAB),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"), 512),
    **dict.fromkeys(("context_length", "max_target_positions", "model_max_length"), 512),
    **dict.fromkeys(("sliding_window", "attention_window_size", "window_size"), WINDOW),
    **dict.fromkeys(("local_attention", "attention_chunk_size", "sliding_window_size"), WINDOW),
    **dict.fromkeys(("keep_window_size", "attention_window"), WINDOW),
    "final_logit_softcapping": 5.0,
    "attn_logit_softcapping": 3.0,
    "floor_scale": WINDOW,
    "pad_token_id": PAD,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "decoder_start_token_id": EOS,
    "is_decoder": True,
    "use_cache": True,
    **dict.fromkeys(("use_mambapy", "use_mamba_kernels", "tie_encoder_decoder"), False),
}
MULTIPLIERS = (8.0, 12.0, 16.0, 24.0, 6.0, 4.0, 3.0, 2.0, 1.0)
"""Of matrices, tried in this order; 8 gives layers of 64 the gain that the same numbers give
layers of 4,096."""
WHERE_NONE = frozenset({"pad_token_id", "bos_token_id", "eos_token_id", "num_key_value_heads"})
"""Fields that are set where the default is None as well."""
DROPOUTS = ("dropout", "pdrop")
FACTORS = ("multiplier", "scaling", "logit_scale", "_factor")
"""Constants that are multiplied with: not 1, so that one left out shows."""
PARTS = (transformers.PretrainedConfig,)
NEEDED = frozenset({"text_encoder", "audio_encoder", "decoder"})
"""Fields without which a configuration cannot be made."""
COUNTS_OF_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
EMBEDDINGS = ("embed", "wte", "shared", "emb_g")
KINDS_OF_LAYERS = ("layer_types", "mlp_layer_types", "layers_block_type", "indexer_types")
"""Lists with one entry a layer."""


def angles(kind: str, **changes: Any) -> dict[str, Any]:
    """Rotary parameters of a kind, whose regimes change behind `SWITCH`."""
    given = {"rope_type": kind, "rope_theta": 10_000.0, "original_max_position_embeddings": SWITCH}
    return given | changes


def longrope(size: int) -> dict[str, Any]:
    """Rotary parameters of two regimes for `size` pairs of dimensions."""
    long = [float(2 ** min(i, 6)) for i in range(size)]
    return angles("longrope", short_factor=[1.0] * size, long_factor=long)


# What sizes by name do not fit.
INDEXER = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 16,
    "indexer_budget": 16,
    "indexer_compress_ratio": 4,
}
OVERRIDES: dict[str, dict[str, Any]] = {
    "bamba": {"num_hidden_layers": 4, "attn_layer_indices": [1, 3]},
    "blt": {
        "encoder_hash_byte_group_vocab": 500,
        **{
            name: {"hidden_size_global": 64}
            for name in ("patcher_config", "encoder_config", "decoder_config", "global_config")
        },
    },
    "cohere_compass_text": {
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [3, 3, 2]}
            for kind in ("full_attention", "sliding_attention")
        },
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "dbrx": {"attn_config": {"rope_theta": 10_000.0, "clip_qkv": 8.0}},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1,
        "layer_types": ["full_attention", "sliding_attention"],
    },
    "layoutlmv3": {"coordinate_size": 8, "shape_size": 16},
    "lfm2_moe": {
        "num_hidden_layers": 4,
        "layer_types": ["conv", "full_attention", "conv", "full_attention"],
    },
    "perceiver": {
        "d_latents": 64,
        "num_latents": 16,
        "num_self_attends_per_block": 2,
        "num_self_attention_heads": 4,
        "num_cross_attention_heads": 4,
    },
    "qwen4_exp": {"text_config": INDEXER},
    "qwen4_exp_text": INDEXER,
    "roc_bert": {"shape_vocab_size": 50, "pronunciation_vocab_size": 50},
    "t5": {"decoder_start_token_id": PAD},
    "xmod": {"default_language": "en_XX"},
    "diffllama": {"attention_dropout": 0.0},
    "esm": {"vocab_size": VOCAB},
    "esmc": {"num_key_value_heads": 4},
    "falcon_h1": {"mamba_d_ssm": 128},
    "gpt_neo": {"num_layers": 2, "attention_types": [[["global", "local"], 1]]},
    "gemma3n_text": {"num_hidden_layers": 5, "num_kv_shared_layers": 2},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16},
    "ministral": {"head_dim": 16},
    "jamba": {
        "num_hidden_layers": 4,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
    },
    "lilt": {"hidden_size": 96, "channel_shrink_ratio": 4},
    "mamba2": {"num_heads": 8, "n_groups": 2},
    "nemotron_h": {"n_groups": 2},
    "mistral4": {"head_dim": 32},
    "mobilebert": {"intra_bottleneck_size": 64},
    "recurrent_gemma": {"num_hidden_layers": 3},
    "reformer": {"axial_pos_embds": False, "hash_seed": 0},
    "zamba": {"attention_hidden_size": 128, "attention_head_dim": 32},
    "zamba2": {"attention_hidden_size": 128, "attention_head_dim": 32},
    "zaya": {"num_experts_per_tok": 1},
    "luke": {"entity_vocab_size": 10},
}
# Further settings of a type that change what is computed: name of the row -> (type, overrides).
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert, both directions": ("bert", {"is_decoder": False}),
    "roberta, both directions": ("roberta", {"is_decoder": False}),
    "falcon, alibi": ("falcon", {"alibi": True}),
    "falcon, new decoder": ("falcon", {"new_decoder_architecture": True}),
    "gemma3_text, both directions": ("gemma3_text", {"use_bidirectional_attention": True}),
    "gemma3_text, softcapping": (
        "gemma3_text",
        {"final_logit_softcapping": 5.0, "attn_logit_softcapping": 3.0},
    ),
    "gpt2, scaled by layer": ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
    "gpt_bigcode, many heads of keys": ("gpt_bigcode", {"multi_query": False}),
    "gemma4_text, experts": (
        "gemma4_text",
        {
            "enable_moe_block": True,
            "num_experts": 4,
            "top_k_experts": 2,
            "moe_intermediate_size": 32,
        },
    ),
    "gemma4_text, shared keys": (
        "gemma4_text",
        {"num_hidden_layers": 6, "num_kv_shared_layers": 2},
    ),
    "gpt2, no padding": ("gpt2", {"pad_token_id": None}),
    "gpt2, padding is EOS": ("gpt2", {"pad_token_id": EOS}),
    "gpt_neox, one after the other": ("gpt_neox", {"use_parallel_residual": False}),
    "llama, dynamic angles": ("llama", {"rope_parameters": angles("dynamic", factor=4.0)}),
    "llama, linear angles": ("llama", {"rope_parameters": angles("linear", factor=4.0)}),
    "llama, llama3 angles": (
        "llama",
        {
            "rope_parameters": angles(
                "llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0
            )
        },
    ),
    "llama, yarn angles": ("llama", {"rope_parameters": angles("yarn", factor=4.0)}),
    "llama, no padding": ("llama", {"pad_token_id": None}),
    "llama, padding is EOS": ("llama", {"pad_token_id": EOS}),
    "llama, tied": ("llama", {"tie_word_embeddings": True}),
    "minicpm3, longrope": ("minicpm3", {"rope_parameters": longrope(8) | {"factor": 4.0}}),
    "olmo, clipped": ("olmo", {"clip_qkv": 1.0}),
    "opt, embeddings of another size": ("opt", {"word_embed_proj_dim": 32}),
    "opt, norms behind": ("opt", {"do_layer_norm_before": False}),
    "phi3, longrope": (
        "phi3",
        {"original_max_position_embeddings": SWITCH, "rope_parameters": longrope(8)},
    ),
    "phi4_multimodal, longrope": (
        "phi4_multimodal",
        {"original_max_position_embeddings": SWITCH, "rope_parameters": longrope(8)},
    ),
    "phimoe, longrope": (
        "phimoe",
        {
            "original_max_position_embeddings": SWITCH,
            "rope_parameters": longrope(8) | {"short_mscale": 1.1, "long_mscale": 1.2},
        },
    ),
    "qwen2, window": (
        "qwen2",
        {
            "use_sliding_window": True,
            "sliding_window": WINDOW,
            "layer_types": ["full_attention", "sliding_attention"],
        },
    ),
    "qwen3, window": (
        "qwen3",
        {
            "use_sliding_window": True,
            "sliding_window": WINDOW,
            "layer_types": ["full_attention", "sliding_attention"],
        },
    ),
    "stablelm, norms of heads": ("stablelm", {"qk_layernorm": True}),
    "zamba2, angles": ("zamba2", {"use_mem_rope": True}),
    "zaya, window": (
        "zaya",
        {"sliding_window": WINDOW, "layer_types": ["hybrid", "hybrid_sliding"]},
    ),
    **{
        f"{name}, window": (name, {"sliding_window": WINDOW})
        for name in ("mixtral", "phi3", "phimoe", "starcoder2", "minimax", "minimax_m2")
    },
}


WHY_NOT = {
    "gemma3n": "needs the package timm; its text part is gemma3n_text",
    "gemma4_assistant": "a head that drafts for another model, no model by itself",
    "gemma4_unified_assistant": "a head that drafts for another model, no model by itself",
    "layoutlmv2": "needs the package detectron2",
    "mra": "needs a kernel for CUDA; without it the output hardly depends on the input",
    "musicgen": "takes codes of sounds, beside a text encoder",
    "musicgen_melody": "takes codes of sounds, beside a text encoder",
}
"""In words, where a model cannot be built; one that can is judged nevertheless."""
