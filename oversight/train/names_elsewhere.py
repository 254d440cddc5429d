"""Settings by the names that they have in TRL and transformers, for those who type these."""

from __future__ import annotations

COMMON = {
    "output_dir": "out",
    "model_name_or_path": "model.path",
    "model_revision": "model.revision",
    "attn_implementation": "model.attention",
    "gradient_checkpointing": "model.gradient_checkpointing",
    **dict.fromkeys(("bf16", "fp16", "dtype", "torch_dtype"), "model.precision"),
    **dict.fromkeys(("use_peft", "peft_config"), "model.lora"),
    **dict.fromkeys(("lora_r", "r"), "model.lora.rank"),
    "lora_alpha": "model.lora.alpha",
    "lora_dropout": "model.lora.dropout",
    **dict.fromkeys(("lora_target_modules", "target_modules"), "model.lora.modules"),
    "router_aux_loss_coef": "model.router_aux_coefficient",
    **dict.fromkeys(("lr", "learning_rate"), "optimizer.lr"),
    **dict.fromkeys(("lr_scheduler_type", "lr_scheduler"), "optimizer.schedule"),
    **dict.fromkeys(("warmup_steps", "warmup_ratio"), "optimizer.warmup"),
    **dict.fromkeys(("adam_beta1", "adam_beta2"), "optimizer.betas"),
    "adam_epsilon": "optimizer.eps",
    "weight_decay": "optimizer.weight_decay",
    "max_grad_norm": "optimizer.max_grad_norm",
    **dict.fromkeys(("per_device_train_batch_size", "train_batch_size"), "batch_size"),
    **dict.fromkeys(
        ("gradient_accumulation_steps", "per_device_eval_batch_size"), "micro_batch_tokens"
    ),
    "num_train_epochs": "epochs",
    "max_steps": "steps",
    **dict.fromkeys(("logging_steps", "logging_strategy"), "log_every"),
    **dict.fromkeys(("eval_steps", "eval_strategy", "evaluation_strategy"), "eval_every"),
    **dict.fromkeys(("save_steps", "save_strategy"), "save_every"),
    "save_total_limit": "keep",
    "early_stopping_patience": "patience",
    "report_to": "tensorboard",
    **dict.fromkeys(("train_dataset", "dataset_name", "dataset", "data_files"), "data.path"),
    "eval_dataset": "data.eval_path",
    "shuffle_dataset": "shuffle",
    "dataset_text_field": "data.columns",
    **dict.fromkeys(("max_length", "max_seq_length"), "data.max_length"),
    "max_prompt_length": "data.max_prompt_length",
    "truncation_mode": "data.truncation",
    "chat_template_kwargs": "data.template_args",
}
SAMPLED = {
    "num_generations": "samples",
    **dict.fromkeys(
        ("max_completion_length", "response_length", "max_new_tokens"), "sampling.max_new_tokens"
    ),
    "temperature": "sampling.temperature",
    **dict.fromkeys(("reward_funcs", "reward_function"), "reward.function"),
    **dict.fromkeys(("reward_model_path", "reward_model"), "reward.models"),
    **dict.fromkeys(("use_vllm", "vllm_mode"), "engine"),
    **dict.fromkeys(("num_iterations", "num_ppo_epochs", "ppo_epochs"), "reuse"),
    **dict.fromkeys(("num_mini_batches", "steps_per_generation"), "mini_batches"),
    "vllm_importance_sampling_cap": "importance.high",
    "mask_truncated_completions": "shaping.mask_unfinished",
    "missing_eos_penalty": "shaping.missing_eos",
    "ref_model": "reference",
}
NAMES_ELSEWHERE = {
    "TrainSettings": COMMON,
    "SFTSettings": {
        **dict.fromkeys(("assistant_only_loss", "completion_only_loss"), "data.train_on"),
    },
    "RewardModelSettings": {"center_rewards_coefficient": "options.centring"},
    "DPOSettings": {
        "loss_type": "loss",
        **{name: f"options.{name}" for name in ("beta", "label_smoothing")},
        **{name: f"options.{name}" for name in ("desirable_weight", "undesirable_weight")},
        "simpo_gamma": "options.gamma",
        "discopop_tau": "options.tau",
        "rpo_alpha": "sft_weight",
        "ld_alpha": "length_alpha",
        "use_weighting": "weighted",
        "precompute_ref_log_probs": "precompute",
        **dict.fromkeys(("ref_model", "reference_model", "reference_free"), "reference"),
    },
    "ExperienceSettings": SAMPLED,
    "GRPOSettings": {
        "loss_type": "loss",
        "beta": "kl_coefficient",
        "epsilon": "options.clip_low",
        "epsilon_high": "options.clip_high",
        "delta": "options.dual_clip",
        "scale_rewards": "scale",
    },
    "PPOSettings": {
        **dict.fromkeys(("beta", "kl_coef", "init_kl_coef"), "kl.coefficient"),
        **dict.fromkeys(("cliprange", "epsilon"), "clip_low"),
        "epsilon_high": "clip_high",
        "cliprange_value": "critic.clip",
        "vf_coef": "critic.coefficient",
        "value_model": "critic.path",
        "kl_estimator": "kl.estimator",
        "whiten_rewards": "shaping.scale",
    },
}
"""By the name of a class of settings: names that users of TRL and transformers type, and the
setting that does here what they mean."""
