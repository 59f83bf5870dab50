"""Which of vLLM's engine arguments may be passed through, and which of them change speed only.

Every argument of vLLM 0.32 is in one of these lists; a test compares them with the installed vLLM, so that a new
version brings no argument that nobody has looked at.
"""

from collections.abc import Iterator, Mapping
from typing import Any


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


SPEED = _names("""
    aggregate_engine_logging all2all_backend async_scheduling block_size cpu_distributed_timeout_seconds
    cpu_offload_gb cpu_offload_params cudagraph_capture_sizes cudagraph_metrics dbo_decode_token_threshold
    dbo_prefill_token_threshold dcp_comm_backend dcp_q_replicate decode_context_parallel_size
    dcp_kv_cache_interleave_size cp_kv_cache_interleave_size disable_cascade_attn disable_chunked_mm_input
    disable_custom_all_reduce disable_hybrid_kv_cache_manager distributed_timeout_seconds enable_chunked_prefill
    enable_cumem_allocator enable_dbo enable_ep_weight_filter enable_eplb enable_expert_parallel
    enable_flashinfer_autotune enable_hc_sp enable_logging_iteration_details enable_mfu_metrics
    enable_mm_processor_stats enable_nccl_comm_suspend enable_prefix_caching enable_shm_tensor_arena enable_sleep_mode
    enforce_eager eplb_config expert_placement_strategy fail_on_environ_validation jit_monitor_mode
    jit_monitor_verbose kv_cache_memory_bytes kv_cache_metrics kv_cache_metrics_sample kv_offloading_backend
    kv_offloading_size load_format long_prefill_token_threshold long_prefill_token_threshold_adaptive
    max_cudagraph_capture_size max_num_active_seqs max_num_scheduled_tokens max_parallel_loading_workers numa_bind
    numa_bind_cpus numa_bind_nodes num_gpu_blocks_override offload_backend offload_group_size offload_num_in_group
    offload_params offload_prefetch_step optimization_level performance_mode per_request_spec_decode_metrics
    prefill_schedule_interval prefix_cache_retention_interval prefix_caching_hash_algo prefix_match_unit
    renderer_num_workers safetensors_load_strategy safetensors_prefetch_block_size safetensors_prefetch_num_threads
    scheduler_reserve_full_isl scheduling_policy show_hidden_metrics_for_version shutdown_timeout
    sleep_mode_offload_cudagraph sleep_preserve_parameter_names stream_interval ubatch_size watermark
""")
"""Outside the judge's identity, as Winnow's own speed settings are."""

SCIENCE = _names("""
    allow_deprecated_quantization attention_backend attention_config aux_output_config config_format convert
    diffusion_config disable_sliding_window enable_batch_sharded_sampling enable_lora
    enable_mamba_cache_stochastic_rounding enable_mamba_shared_prefix_checkpoint enable_mixed_moe_lora_format
    enable_mm_embeds enable_moe_shared_loras enable_prompt_embeds enable_return_routed_experts
    enable_tower_connector_lora enable_trace_replay engram_config fully_sharded_loras gdn_prefill_backend
    generation_config hf_overrides interleave_mm_strings ir_op_priority kda_decode_backend kda_prefill_backend
    kernel_config kv_cache_dtype kv_cache_dtype_skip_layers kv_sharing_fast_prefill language_model_only
    limit_mm_per_prompt linear_backend logprobs_mode lora_dtype lora_target_modules mamba_backend mamba_block_size
    mamba_cache_dtype mamba_cache_mode mamba_cache_philox_rounds mamba_config mamba_ssm_cache_dtype
    mamba_ssu_algorithm max_cpu_loras max_logprobs max_lora_cls_labels max_lora_rank max_loras media_io_kwargs
    mm_device_do_normalize mm_encoder_attn_backend mm_encoder_attn_dtype mm_encoder_only mm_encoder_tp_mode
    mm_hasher_algorithm mm_ipc_gpu_memory_gb mm_processor_cache_gb mm_processor_cache_type mm_processor_device
    mm_processor_kwargs mm_shm_cache_max_object_size_mb mm_tensor_ipc model_impl moe_backend
    override_generation_config pooler_config quantization_config reasoning_config replayssm_buffer_len
    return_sampling_mask seed skip_mm_profiling sparse_indexer_topk_backend specialize_active_lora spec_method
    spec_tokens speculative_config structured_outputs_config swa_bounded_replay use_fp64_gumbel use_replayssm
    video_pruning_method video_pruning_rate
""")
"""Part of the judge's identity."""

OURS: Mapping[str, str] = {
    "dtype": "engine.dtype",
    "gpu_memory_utilization": "engine.gpu_memory_share",
    "max_model_len": "engine.max_tokens",
    "max_num_batched_tokens": "engine.max_batched_tokens",
    "max_num_seqs": "engine.max_sequences",
    "model": "engine.model",
    "quantization": "engine.quantisation",
    "reasoning_parser": "engine.reasoning_parser",
    "tensor_parallel_size": "engine.gpus",
}
"""Arguments that have a setting of their own."""

_FOREIGN = "it can load code or pickled data that is not vLLM's"
_ELSEWHERE = "it would name another model, tokenizer or revision than the one that is hashed into the judge's identity"
_OUTSIDE = "it takes machines, ports or files that this job has not been given"
_INNER = "Winnow's own loop depends on it"

REFUSED: Mapping[str, str] = {
    name: reason
    for reason, names in {
        _FOREIGN: """
            additional_config compilation_config distributed_executor_backend ec_manager_config ec_transfer_config
            io_processor_plugin kv_transfer_config logits_processors model_class_overrides model_loader_extra_config
            pt_load_map_location reasoning_parser_plugin scheduler_cls trust_remote_code weight_transfer_config
            worker_cls worker_extension_cls
        """,
        _ELSEWHERE: """
            code_revision default_mm_loras hf_config_path hf_token ignore_patterns model_weights revision runner
            served_model_name spec_model tokenizer tokenizer_mode tokenizer_revision
        """,
        _OUTSIDE: """
            _api_process_count _api_process_rank allowed_local_media_path allowed_media_domains collect_detailed_traces
            custom_histogram_buckets data_parallel_address data_parallel_backend data_parallel_external_lb
            data_parallel_hybrid_lb data_parallel_multi_port_external_lb data_parallel_rank data_parallel_rpc_port
            data_parallel_size data_parallel_size_local data_parallel_start_rank device_ids
            disable_nccl_for_dp_synchronization download_dir dp_sync_interval elastic_ep_max_dp_size
            enable_elastic_ep enable_fault_tolerance enable_layerwise_nvtx_tracing fault_tolerance_config
            kv_events_config log_config_file log_level logging_config master_addr master_port
            mm_encoder_fp8_scale_path mm_encoder_fp8_scale_save_margin mm_encoder_fp8_scale_save_path nnodes node_rank
            otlp_traces_endpoint pipeline_parallel_size prefill_context_parallel_size profiler_config
            ray_workers_use_nsight
        """,
        _INNER: """
            disable_log_stats max_num_queued_reqs max_num_queued_tokens skip_tokenizer_init tokens_only
            use_tqdm_on_load watermark_config
        """,
    }.items()
    for name in names.split()
}
"""Arguments that are not passed on, and why."""

_SAFE_LOAD_FORMATS = ("auto", "safetensors", "fastsafetensors", "instanttensor", "runai_streamer", "mistral")
_FOREIGN_KEYS = ("trust_remote_code", "auto_map", "model", "tokenizer", "revision", "code_revision", "draft_model")
_FOREIGN_ENDINGS = ("_cls", "_class", "_plugin", "plugins", "_module", "_path", "_parser_plugin", "_processors")


def check_engine_args(arguments: Mapping[str, Any]) -> None:
    """Returns if ``arguments`` may be passed to vLLM, else raises ``ValueError``."""
    for name, value in arguments.items():
        if name in OURS:
            raise ValueError(f"{name} has a setting of its own; set {OURS[name]}")
        if name in REFUSED:
            raise ValueError(f"{name} is not passed on: {REFUSED[name]}")
        if name not in SPEED | SCIENCE:
            raise ValueError(f"vLLM 0.32 has no engine argument {name!r}; expected its names, with underscores")
        foreign = next(_foreign(value), None)
        if foreign is not None:
            raise ValueError(f"{name} holds {foreign!r}, which is not passed on: {_FOREIGN}")
    load_format = arguments.get("load_format", "auto")
    if load_format not in _SAFE_LOAD_FORMATS:
        raise ValueError(f"load_format is {load_format!r}, expected one of {', '.join(_SAFE_LOAD_FORMATS)}")


def _foreign(value: Any) -> Iterator[str]:
    """Keys at any depth that name code or another model, and the method of speculation that is a class."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if str(key) in _FOREIGN_KEYS or str(key).endswith(_FOREIGN_ENDINGS):
                yield str(key)
            yield from _foreign(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _foreign(inner)
    elif value == "custom_class":
        yield value
