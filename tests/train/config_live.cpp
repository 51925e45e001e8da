// Every key that ds_config_describe calls live is: with another value the run computes, plans, logs or reports something else, or is
// refused with a message that names the key. A key without a row here fails, so that none is silently ignored.
#include <dsrt/dsrt.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "support/checks.h"

namespace {

using checks::check;
using ds::Json;

struct Row {
    const char* key;
    const char* base;     // merged over the common config
    const char* flipped;  // merged over that
};

const char* const kAdam = R"({"optimizer": {"type": "AdamW", "params": {"lr": 0.01}}})";
const char* const kTrace = R"({"logger": {"default_verbosity": "TRACE"}})";  // levels are the process's: they outlive an engine
const char* const kSgd = R"({"optimizer": {"type": "SGD", "params": {"lr": 0.01, "momentum": 0.9}}})";
const char* const kLayerDrop = R"({"progressive_layer_drop": {"enabled": true, "theta": 0.5, "gamma": 0.5}})";
const char* const kCurriculum =
    R"({"curriculum_learning": {"enabled": true, "curriculum_type": "seqlen", "min_difficulty": 4, "max_difficulty": 12,
    "schedule_type": "fixed_linear", "schedule_config": {"total_curriculum_step": 6, "difficulty_step": 1}}})";
const char* const kSampling =
    R"({"data_efficiency": {"enabled": true, "data_sampling": {"enabled": true, "curriculum_learning": {"enabled": true, "curriculum_metrics":
    {"seqlen": {"min_difficulty": 8, "max_difficulty": 60, "schedule_type": "fixed_linear", "schedule_config": {"total_curriculum_step": 6, "difficulty_step": 1}}}}}}})";
const char* const kStudent =
    R"({"compression_training": {"layer_reduction": {"enabled": true, "keep_number_layer": 1, "module_name_prefix": "bert.encoder.layer", "teacher_layer": [1],
    "other_module_name": ["bert.embeddings", "bert.pooler", "classifier"]}}})";
const char* const kTaught =
    R"({"compression_training": {"layer_reduction": {"enabled": true, "keep_number_layer": 1, "module_name_prefix": "bert.encoder.layer", "teacher_layer": [1],
    "other_module_name": ["bert.embeddings", "bert.pooler", "classifier"]}, "knowledge_distillation": {"enabled": true}}})";
const char* const kTwo = R"({"parallel": {"data": 2}})";
#define ZERO(stage, settings) R"({"parallel": {"data": 2}, "zero_optimization": {"stage": )" #stage settings "}}"
#define DISK(settings)                                                                                                                                                  \
    R"({"zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 10, "offload_param": {"device": "nvme", "nvme_path": "/tmp", "max_in_cpu": 0)" settings \
    "}}}"
#define GROUP(settings) "{\"param_groups\": [{\"match\": [\"*\"]" settings "}]}"
#define SPARSE(settings) "{\"sparse_attention\": {\"block\": 2, \"num_local_blocks\": 2" settings "}}"
#define LORA(settings) "{\"lora\": {\"target_modules\": [\"query\"]" settings "}}"
#define CODED(settings) "{\"lora\": {\"target_modules\": [\"query\"]}, \"quantization\": {" settings "}}"
#define GROWTH(settings) "{\"train_batch_size\": 2, \"batch_growth\": {\"schedule\": [[2, 4], [4, 6]]" settings "}}"
#define PLATEAU(settings)                                                                                                                  \
    "{\"train_batch_size\": 2, \"batch_growth\": {\"by\": \"plateau\", \"max_batch_size\": 40, \"patience\": 1, \"smoothing\": 0" settings \
    "}}"
// Of batches up to 9 rows, 8 suit as many numbers of ranks as 6 do.
#define ELASTIC(settings)                                                                                         \
    "{\"train_batch_size\": null, \"train_micro_batch_size_per_gpu\": null, \"elasticity\": {\"enabled\": true, " \
    "\"max_train_batch_size\": 9, \"micro_batch_sizes\": [1, 2, 3]" settings "}}"
#define BY_TOKENS(settings)                                                                                                    \
    "{\"train_micro_batch_size_per_gpu\": 1, \"data_efficiency\": {\"enabled\": true, \"data_sampling\": {\"enabled\": true, " \
    "\"dynamic_batching\": {\"enabled\": true, \"max_tokens\": 40" settings "}}}}"
#define LTD(settings)                                                                                                         \
    "{\"data_efficiency\": {\"enabled\": true, \"data_routing\": {\"enabled\": true, \"random_ltd\": {\"enabled\": true, "    \
    "\"random_ltd_layer_id\": [0], \"random_ltd_schedule\": "                                                                 \
    "{\"min_value\": 4, \"max_value\": 12, \"schedule_type\": \"fixed_linear\", \"schedule_config\": {\"require_steps\": 6, " \
    "\"seq_per_step\": 1}" settings "}}}}}"
#define COMPRESS(name, shared, params)                                                              \
    "{\"compression_training\": {\"" name "\": {\"shared_parameters\": {\"enabled\": true, " shared \
    "}, \"different_groups\": {\"g\": {\"params\": {" params "}, \"modules\": [\"layer.0.attention.output.dense\"]}}}}}"
#define FP16(settings) "{\"fp16\": {\"enabled\": true, \"initial_scale_power\": 4, \"hysteresis\": 1" settings "}}"

const Row kRows[] = {
    {"model", "{}", R"({"model": "MODELS/bert-mlm"})"},
    {"model_overrides", "{}", R"({"model_overrides": {"hidden_dropout_prob": 0.5}})"},
    {"model_init", "{}", R"({"model_init": "random"})"},
    {"tokenizer", "{}", R"({"tokenizer": "/nowhere/tokenizer.json"})"},
    {"outputs", "{}", R"({"outputs": ["no_such_output"]})"},
    {"max_seq_length", "{}", R"({"max_seq_length": 8})"},
    {"steps_per_epoch", "{}", R"({"steps_per_epoch": 7})"},
    {"dataloader_drop_last", "{}", R"({"dataloader_drop_last": true})"},
    {"vocabulary_size", "{}", R"({"vocabulary_size": 97})"},
    {"train_batch_size", "{}", R"({"train_batch_size": 8})"},
    {"train_micro_batch_size_per_gpu", "{}", R"({"train_micro_batch_size_per_gpu": 1})"},
    {"gradient_accumulation_steps", "{}", R"({"gradient_accumulation_steps": 1, "train_micro_batch_size_per_gpu": 4})"},
    {"training_batch_size", R"({"train_batch_size": null, "training_batch_size": 4})", R"({"training_batch_size": 8})"},
    {"optimizer.type", "{}", R"({"optimizer": {"type": "Lion"}})"},
    {"optimizer.params", "{}", R"({"optimizer": {"params": {"lr": 0.02}}})"},
    {"optimizer_params", R"({"optimizer": "SGD", "optimizer_params": {"lr": 0.1}})", R"({"optimizer_params": {"lr": 0.2}})"},
    {"param_groups[].name", GROUP(""), GROUP(", \"name\": 5")},
    {"param_groups[].match", GROUP(""), R"({"param_groups": [{"match": ["nothing*"]}]})"},
    {"param_groups[].frozen", R"({"param_groups": [{"match": ["*.bias"]}]})",
     R"({"param_groups": [{"match": ["*.bias"], "frozen": true}]})"},
    {"param_groups[].lr", GROUP(""), GROUP(", \"lr\": 0.03")},
    {"param_groups[].weight_decay", GROUP(""), GROUP(", \"weight_decay\": 0.3")},
    {"param_groups[].betas", GROUP(""), GROUP(", \"betas\": [0.5, 0.6]")},
    {"param_groups[].eps", GROUP(""), GROUP(", \"eps\": 0.1")},
    {"param_groups[].bias_correction", GROUP(""), GROUP(", \"bias_correction\": false")},
    {"param_groups[].momentum", kSgd, GROUP(", \"momentum\": 0.1")},
    {"param_groups[].nesterov", kSgd, GROUP(", \"nesterov\": true")},
    {"param_groups[].dampening", kSgd, GROUP(", \"dampening\": 0.5")},
    {"param_groups[].alpha", R"({"optimizer": {"type": "RMSprop", "params": {"lr": 0.01}}})", GROUP(", \"alpha\": 0.5")},
    {"param_groups[].use_muon", R"({"optimizer": {"type": "Muon", "params": {"lr": 0.01}}})", GROUP(", \"use_muon\": false")},
    {"batch_growth.by", GROWTH(""), R"({"batch_growth": {"by": "tokens"}})"},
    {"batch_growth.schedule", GROWTH(""), R"({"batch_growth": {"schedule": [[1, 8]]}})"},
    {"batch_growth.max_batch_size", PLATEAU(", \"threshold\": 0.5"), R"({"batch_growth": {"max_batch_size": 2}})"},
    {"batch_growth.factor", PLATEAU(", \"threshold\": 0.5"), R"({"batch_growth": {"factor": 3}})"},
    {"batch_growth.patience", PLATEAU(", \"threshold\": 0.5"), R"({"batch_growth": {"patience": 2}})"},
    {"batch_growth.threshold", PLATEAU(", \"threshold\": 0.5"), R"({"batch_growth": {"threshold": 0}})"},
    {"batch_growth.smoothing", PLATEAU(", \"threshold\": 0.001"), R"({"batch_growth": {"smoothing": 0.99}})"},
    {"batch_growth.lr_scaling", GROWTH(""), R"({"batch_growth": {"lr_scaling": "none"}})"},
    {"elasticity.enabled", ELASTIC(""), R"({"elasticity": {"enabled": false}, "train_batch_size": 4})"},
    {"elasticity.max_train_batch_size", ELASTIC(""), R"({"elasticity": {"max_train_batch_size": 7}})"},
    {"elasticity.micro_batch_sizes", ELASTIC(""), R"({"elasticity": {"micro_batch_sizes": [3]}})"},
    {"elasticity.min_gpus", ELASTIC(""), R"({"elasticity": {"min_gpus": 7}})"},
    {"elasticity.max_gpus", ELASTIC(""), R"({"elasticity": {"max_gpus": 7}})"},
    {"elasticity.num_gpus_per_node", ELASTIC(""), R"({"elasticity": {"num_gpus_per_node": 2}})"},
    {"elasticity.model_parallel_size", ELASTIC(""), R"({"elasticity": {"model_parallel_size": 2}})"},
    {"elasticity.prefer_larger_batch", ELASTIC(""), R"({"elasticity": {"prefer_larger_batch": false}})"},
    {"elasticity.ignore_non_elastic_batch_info", ELASTIC(", \"ignore_non_elastic_batch_info\": true"),
     R"({"train_batch_size": 4, "elasticity": {"ignore_non_elastic_batch_info": false}})"},
    {"elasticity.version", ELASTIC(""), R"({"elasticity": {"version": 0.3}})"},
    {"progressive_layer_drop.enabled", "{}", R"({"progressive_layer_drop": {"enabled": true, "theta": 0, "gamma": 9}})"},
    {"progressive_layer_drop.theta", kLayerDrop, R"({"progressive_layer_drop": {"theta": 0.1}})"},
    {"progressive_layer_drop.gamma", kLayerDrop, R"({"progressive_layer_drop": {"gamma": 0.01}})"},
    {"curriculum_learning.enabled", kCurriculum, R"({"curriculum_learning": {"enabled": false}})"},
    {"curriculum_learning.curriculum_type", kCurriculum, R"({"curriculum_learning": {"curriculum_type": "words"}})"},
    {"curriculum_learning.min_difficulty", kCurriculum, R"({"curriculum_learning": {"min_difficulty": 6}})"},
    {"curriculum_learning.max_difficulty", kCurriculum, R"({"curriculum_learning": {"max_difficulty": 5}})"},
    {"curriculum_learning.schedule_type", kCurriculum, R"({"curriculum_learning": {"schedule_type": "cubic"}})"},
    {"curriculum_learning.schedule_config", kCurriculum, R"({"curriculum_learning": {"schedule_config": {"difficulty_step": 4}}})"},
    {"data_efficiency.enabled", kSampling, R"({"data_efficiency": {"enabled": false}})"},
    {"data_efficiency.seed", kSampling, R"({"data_efficiency": {"seed": 5}})"},
    {"data_efficiency.data_sampling.enabled", kSampling, R"({"data_efficiency": {"data_sampling": {"enabled": false}}})"},
    {"data_efficiency.data_sampling.curriculum_learning.enabled", kSampling,
     R"({"data_efficiency": {"data_sampling": {"curriculum_learning": {"enabled": false}}}})"},
    {"data_efficiency.data_sampling.curriculum_learning.curriculum_metrics", kSampling,
     R"({"data_efficiency": {"data_sampling": {"curriculum_learning": {"curriculum_metrics": {"seqlen": {"min_difficulty": 1}}}}}})"},
    {"data_efficiency.data_sampling.dynamic_batching.enabled", BY_TOKENS(""),
     R"({"data_efficiency": {"data_sampling": {"dynamic_batching": {"enabled": false}}}})"},
    {"data_efficiency.data_sampling.dynamic_batching.lr_scaling_method", BY_TOKENS(""),
     R"({"data_efficiency": {"data_sampling": {"dynamic_batching": {"lr_scaling_method": "none"}}}})"},
    {"data_efficiency.data_sampling.dynamic_batching.min_batch_size", BY_TOKENS(""),
     R"({"data_efficiency": {"data_sampling": {"dynamic_batching": {"min_batch_size": 6}}}})"},
    {"data_efficiency.data_sampling.dynamic_batching.max_batch_size", BY_TOKENS(""),
     R"({"data_efficiency": {"data_sampling": {"dynamic_batching": {"max_batch_size": 1}}}})"},
    {"data_efficiency.data_sampling.dynamic_batching.sequence_picking_order", BY_TOKENS(""),
     R"({"data_efficiency": {"data_sampling": {"dynamic_batching": {"sequence_picking_order": "seqlen"}}}})"},
    {"data_efficiency.data_sampling.dynamic_batching.max_tokens", BY_TOKENS(""),
     R"({"data_efficiency": {"data_sampling": {"dynamic_batching": {"max_tokens": 9}}}})"},
    {"data_efficiency.data_routing.enabled", LTD(""), R"({"data_efficiency": {"data_routing": {"enabled": false}}})"},
    {"data_efficiency.data_routing.random_ltd.enabled", LTD(""),
     R"({"data_efficiency": {"data_routing": {"random_ltd": {"enabled": false}}}})"},
    {"data_efficiency.data_routing.random_ltd.total_layer_num", LTD(""),
     R"({"data_efficiency": {"data_routing": {"random_ltd": {"total_layer_num": 7}}}})"},
    {"data_efficiency.data_routing.random_ltd.random_ltd_layer_num", LTD(""),
     R"({"data_efficiency": {"data_routing": {"random_ltd": {"random_ltd_layer_num": 7}}}})"},
    {"data_efficiency.data_routing.random_ltd.random_ltd_layer_id", LTD(""),
     R"({"data_efficiency": {"data_routing": {"random_ltd": {"random_ltd_layer_id": [1]}}}})"},
    {"data_efficiency.data_routing.random_ltd.random_ltd_schedule.min_value", LTD(""),
     R"({"data_efficiency": {"data_routing": {"random_ltd": {"random_ltd_schedule": {"min_value": 6}}}}})"},
    {"data_efficiency.data_routing.random_ltd.random_ltd_schedule.max_value", LTD(""),
     R"({"data_efficiency": {"data_routing": {"random_ltd": {"random_ltd_schedule": {"max_value": 5}}}}})"},
    {"data_efficiency.data_routing.random_ltd.random_ltd_schedule.schedule_type", LTD(""),
     R"({"data_efficiency": {"data_routing": {"random_ltd": {"random_ltd_schedule": {"schedule_type": "fixed_root"}}}}})"},
    {"data_efficiency.data_routing.random_ltd.random_ltd_schedule.schedule_config", LTD(""),
     R"({"data_efficiency": {"data_routing": {"random_ltd": {"random_ltd_schedule": {"schedule_config": {"require_steps": 2}}}}}})"},
    {"compression_training.weight_quantization.shared_parameters.enabled",
     COMPRESS("weight_quantization", "\"schedule_offset\": 0", "\"start_bits\": 8, \"target_bits\": 3"),
     R"({"compression_training": {"weight_quantization": {"shared_parameters": {"enabled": false}}}})"},
    {"compression_training.weight_quantization.shared_parameters.schedule_offset",
     COMPRESS("weight_quantization", "\"schedule_offset\": 0", "\"start_bits\": 8, \"target_bits\": 3"),
     R"({"compression_training": {"weight_quantization": {"shared_parameters": {"schedule_offset": 5}}}})"},
    {"compression_training.weight_quantization.different_groups",
     COMPRESS("weight_quantization", "\"schedule_offset\": 0", "\"start_bits\": 8, \"target_bits\": 3"),
     R"({"compression_training": {"weight_quantization": {"different_groups": {"g": {"modules": ["layer.1.attention.output.dense"]}}}}})"},
    {"compression_training.weight_quantization.shared_parameters.quantize_groups",
     COMPRESS("weight_quantization", "\"schedule_offset\": 0", "\"start_bits\": 8, \"target_bits\": 3"),
     R"({"compression_training": {"weight_quantization": {"shared_parameters": {"quantize_groups": 4}}}})"},
    {"compression_training.weight_quantization.shared_parameters.quantization_type",
     COMPRESS("weight_quantization", "\"schedule_offset\": 0", "\"start_bits\": 8, \"target_bits\": 3"),
     R"({"compression_training": {"weight_quantization": {"shared_parameters": {"quantization_type": "asymmetric"}}}})"},
    {"compression_training.weight_quantization.shared_parameters.quantize_weight_in_forward",
     COMPRESS("weight_quantization", "\"schedule_offset\": 0", "\"start_bits\": 8, \"target_bits\": 3"),
     R"({"compression_training": {"weight_quantization": {"shared_parameters": {"quantize_weight_in_forward": true}}}})"},
    {"compression_training.activation_quantization.shared_parameters.enabled",
     COMPRESS("activation_quantization", "\"schedule_offset\": 1", "\"bits\": 4"),
     R"({"compression_training": {"activation_quantization": {"shared_parameters": {"enabled": false}}}})"},
    {"compression_training.activation_quantization.shared_parameters.schedule_offset",
     COMPRESS("activation_quantization", "\"schedule_offset\": 1", "\"bits\": 4"),
     R"({"compression_training": {"activation_quantization": {"shared_parameters": {"schedule_offset": 5}}}})"},
    {"compression_training.activation_quantization.different_groups",
     COMPRESS("activation_quantization", "\"schedule_offset\": 1", "\"bits\": 4"),
     R"({"compression_training": {"activation_quantization": {"different_groups": {"g": {"modules": ["layer.1.attention.output.dense"]}}}}})"},
    {"compression_training.activation_quantization.shared_parameters.quantization_type",
     COMPRESS("activation_quantization", "\"schedule_offset\": 1", "\"bits\": 4"),
     R"({"compression_training": {"activation_quantization": {"shared_parameters": {"quantization_type": "asymmetric"}}}})"},
    {"compression_training.activation_quantization.shared_parameters.range_calibration",
     COMPRESS("activation_quantization", "\"schedule_offset\": 1", "\"bits\": 4"),
     R"({"compression_training": {"activation_quantization": {"shared_parameters": {"range_calibration": "static"}}}})"},
    {"compression_training.sparse_pruning.shared_parameters.enabled",
     COMPRESS("sparse_pruning", "\"schedule_offset\": 1", "\"dense_ratio\": 0.5"),
     R"({"compression_training": {"sparse_pruning": {"shared_parameters": {"enabled": false}}}})"},
    {"compression_training.sparse_pruning.shared_parameters.schedule_offset",
     COMPRESS("sparse_pruning", "\"schedule_offset\": 1", "\"dense_ratio\": 0.5"),
     R"({"compression_training": {"sparse_pruning": {"shared_parameters": {"schedule_offset": 5}}}})"},
    {"compression_training.sparse_pruning.different_groups", COMPRESS("sparse_pruning", "\"schedule_offset\": 1", "\"dense_ratio\": 0.5"),
     R"({"compression_training": {"sparse_pruning": {"different_groups": {"g": {"modules": ["layer.1.attention.output.dense"]}}}}})"},
    {"compression_training.sparse_pruning.shared_parameters.method",
     COMPRESS("sparse_pruning", "\"schedule_offset\": 1", "\"dense_ratio\": 0.5"),
     R"({"compression_training": {"sparse_pruning": {"shared_parameters": {"method": "topk"}}}})"},
    {"compression_training.sparse_pruning.shared_parameters.block_pattern",
     COMPRESS("sparse_pruning", "\"schedule_offset\": 1", "\"dense_ratio\": 0.5"),
     R"({"compression_training": {"sparse_pruning": {"shared_parameters": {"block_pattern": "1:4"}}}})"},
    {"compression_training.row_pruning.shared_parameters.enabled",
     COMPRESS("row_pruning", "\"schedule_offset\": 1", "\"dense_ratio\": 0.5"),
     R"({"compression_training": {"row_pruning": {"shared_parameters": {"enabled": false}}}})"},
    {"compression_training.row_pruning.shared_parameters.schedule_offset",
     COMPRESS("row_pruning", "\"schedule_offset\": 1", "\"dense_ratio\": 0.5"),
     R"({"compression_training": {"row_pruning": {"shared_parameters": {"schedule_offset": 5}}}})"},
    {"compression_training.row_pruning.different_groups", COMPRESS("row_pruning", "\"schedule_offset\": 1", "\"dense_ratio\": 0.5"),
     R"({"compression_training": {"row_pruning": {"different_groups": {"g": {"modules": ["layer.1.attention.output.dense"]}}}}})"},
    {"compression_training.row_pruning.shared_parameters.method", COMPRESS("row_pruning", "\"schedule_offset\": 1", "\"dense_ratio\": 0.5"),
     R"({"compression_training": {"row_pruning": {"shared_parameters": {"method": "topk"}}}})"},
    {"compression_training.head_pruning.shared_parameters.enabled",
     COMPRESS("head_pruning", "\"schedule_offset\": 1, \"num_heads\": 4", "\"dense_ratio\": 0.5"),
     R"({"compression_training": {"head_pruning": {"shared_parameters": {"enabled": false}}}})"},
    {"compression_training.head_pruning.shared_parameters.schedule_offset",
     COMPRESS("head_pruning", "\"schedule_offset\": 1, \"num_heads\": 4", "\"dense_ratio\": 0.5"),
     R"({"compression_training": {"head_pruning": {"shared_parameters": {"schedule_offset": 5}}}})"},
    {"compression_training.head_pruning.different_groups",
     COMPRESS("head_pruning", "\"schedule_offset\": 1, \"num_heads\": 4", "\"dense_ratio\": 0.5"),
     R"({"compression_training": {"head_pruning": {"different_groups": {"g": {"modules": ["layer.1.attention.output.dense"]}}}}})"},
    {"compression_training.head_pruning.shared_parameters.method",
     COMPRESS("head_pruning", "\"schedule_offset\": 1, \"num_heads\": 4", "\"dense_ratio\": 0.5"),
     R"({"compression_training": {"head_pruning": {"shared_parameters": {"method": "l1"}}}})"},
    {"compression_training.head_pruning.shared_parameters.num_heads",
     COMPRESS("head_pruning", "\"schedule_offset\": 1, \"num_heads\": 4", "\"dense_ratio\": 0.5"),
     R"({"compression_training": {"head_pruning": {"shared_parameters": {"num_heads": 2}}}})"},
    {"compression_training.layer_reduction.enabled", kStudent, R"({"compression_training": {"layer_reduction": {"enabled": false}}})"},
    {"compression_training.layer_reduction.keep_number_layer", kStudent,
     R"({"compression_training": {"layer_reduction": {"keep_number_layer": 2}}})"},
    {"compression_training.layer_reduction.module_name_prefix", kStudent,
     R"({"compression_training": {"layer_reduction": {"module_name_prefix": "bert.encoder.other"}}})"},
    {"compression_training.layer_reduction.teacher_layer", kStudent,
     R"({"compression_training": {"layer_reduction": {"teacher_layer": [0]}}})"},
    {"compression_training.layer_reduction.other_module_name", kStudent,
     R"({"compression_training": {"layer_reduction": {"other_module_name": ["bert.embeddings"]}}})"},
    {"compression_training.knowledge_distillation.enabled", kTaught,
     R"({"compression_training": {"knowledge_distillation": {"enabled": false}}})"},
    {"compression_training.knowledge_distillation.teacher", kTaught,
     R"({"compression_training": {"knowledge_distillation": {"teacher": "/nowhere/teacher"}}})"},
    {"compression_training.knowledge_distillation.temperature", kTaught,
     R"({"compression_training": {"knowledge_distillation": {"temperature": 4}}})"},
    {"compression_training.knowledge_distillation.alpha", kTaught,
     R"({"compression_training": {"knowledge_distillation": {"alpha": 0.9}}})"},
    {"compression_training.knowledge_distillation.hidden_weight", kTaught,
     R"({"compression_training": {"knowledge_distillation": {"hidden_weight": 0.3}}})"},
    {"lora.r", LORA(""), LORA(", \"r\": 3")},
    {"lora.alpha", LORA(", \"bias\": \"all\""), R"({"lora": {"alpha": 64}})"},
    {"lora.lora_alpha", LORA(", \"bias\": \"all\""), R"({"lora": {"lora_alpha": 64}})"},
    {"lora.dropout", LORA(""), LORA(", \"dropout\": 0.5")},
    {"lora.lora_dropout", LORA(""), LORA(", \"lora_dropout\": 0.5")},
    {"lora.target_modules", LORA(""), LORA(", \"target_modules\": [\"dense\"]")},
    {"lora.modules_to_save", LORA(""), LORA(", \"modules_to_save\": [\"classifier\"]")},
    {"lora.bias", LORA(""), LORA(", \"bias\": \"all\"")},
    {"lora.use_rslora", LORA(", \"alpha\": 64"), LORA(", \"use_rslora\": true")},
    {"lora.adapters", LORA(""), LORA(", \"adapters\": {\"x\": \"/nowhere\"}")},
    {"lora.adapter", LORA(""), LORA(", \"adapter\": \"nobody\"")},
    {"quantization.load_in_4bit", CODED("\"load_in_4bit\": true"), R"({"quantization": {"load_in_4bit": false}})"},
    {"quantization.load_in_8bit", CODED("\"load_in_4bit\": true"), R"({"quantization": {"load_in_4bit": false, "load_in_8bit": true}})"},
    {"quantization.load_in_16bit",
     R"({"bf16": {"enabled": true}, "lora": {"target_modules": ["query"]}, "quantization": {"load_in_8bit": true}})",
     R"({"quantization": {"load_in_8bit": false, "load_in_16bit": true}})"},
    {"quantization.bnb_4bit_quant_type", CODED("\"load_in_4bit\": true"), R"({"quantization": {"bnb_4bit_quant_type": "fp4"}})"},
    {"quantization.group_size", CODED("\"load_in_4bit\": true, \"bnb_4bit_quant_type\": \"int4\", \"group_size\": 8"),
     R"({"quantization": {"group_size": 4}})"},
    {"quantization.sym", CODED("\"load_in_4bit\": true, \"bnb_4bit_quant_type\": \"int4\", \"group_size\": 8"),
     R"({"quantization": {"sym": false}})"},
    {"quantization.bnb_4bit_use_double_quant", CODED("\"load_in_4bit\": true"), R"({"quantization": {"bnb_4bit_use_double_quant": true}})"},
    {"quantization.bnb_4bit_compute_dtype", CODED("\"load_in_4bit\": true"), R"({"quantization": {"bnb_4bit_compute_dtype": "bfloat16"}})"},
    {"quantization.int8_products", CODED("\"load_in_8bit\": true"), R"({"quantization": {"int8_products": true}})"},
    {"quantization.llm_int8_skip_modules", CODED("\"load_in_4bit\": true"), R"({"quantization": {"llm_int8_skip_modules": ["query"]}})"},
    {"quantization_config", LORA(""), R"({"quantization_config": {"load_in_8bit": true}})"},
    {"scheduler.type", R"({"scheduler": {"type": "ExponentialLR", "params": {"gamma": 0.5}}})",
     R"({"scheduler": {"type": "StepLR", "params": {"step_size": 3}}})"},
    {"scheduler.params", R"({"scheduler": {"type": "ExponentialLR", "params": {"gamma": 0.5}}})",
     R"({"scheduler": {"params": {"gamma": 0.9}}})"},
    {"gradient_clipping", kSgd, R"({"gradient_clipping": 0.01})"},
    {"loss_normalization", R"({"model": "MODELS/bert-ner"})", R"({"loss_normalization": "micro_batch"})"},
    {"fp16.enabled", "{}", R"({"fp16": {"enabled": true}})"},
    {"fp16.loss_scale", FP16(""), FP16(", \"loss_scale\": 64")},
    {"fp16.initial_scale_power", FP16(""), R"({"fp16": {"initial_scale_power": 3}})"},
    {"fp16.loss_scale_window", FP16(""), FP16(", \"loss_scale_window\": 1")},
    {"fp16.hysteresis", R"({"fp16": {"enabled": true, "initial_scale_power": 40, "hysteresis": 1}})", R"({"fp16": {"hysteresis": 9}})"},
    {"fp16.consecutive_hysteresis", R"({"fp16": {"enabled": true, "initial_scale_power": 4, "hysteresis": 2}, "POISON": true})",
     R"({"fp16": {"consecutive_hysteresis": true}})"},
    {"fp16.min_loss_scale", R"({"fp16": {"enabled": true, "initial_scale_power": 40, "hysteresis": 1}})",
     R"({"fp16": {"min_loss_scale": 1e12}})"},
    {"bf16.enabled", "{}", R"({"bf16": {"enabled": true}})"},
    {"bfloat16", "{}", R"({"bfloat16": {"enabled": true}})"},
    {"bf16.check_grad_overflow", R"({"bf16": {"enabled": true}, "POISON": true})", R"({"bf16": {"check_grad_overflow": false}})"},
    {"bf16.stochastic_rounding", R"({"bf16": {"enabled": true}})", R"({"bf16": {"stochastic_rounding": true}})"},
    {"fp8.enabled", R"({"bf16": {"enabled": true}})", R"({"fp8": {"enabled": true}})"},
    {"fp8.filter_fqns", R"({"bf16": {"enabled": true}})", R"({"fp8": {"enabled": true, "filter_fqns": ["nowhere"]}})"},
    {"precision", R"({"bf16": {"enabled": true}})", R"({"precision": {"classifier*": "f32"}})"},
    {"data_types.grad_accum_dtype", "{}", R"({"data_types": {"grad_accum_dtype": "bf16"}})"},
    {"data_types.param_dtype", "{}", R"({"data_types": {"param_dtype": "bf16"}})"},
    {"device", "{}", R"({"device": "cuda"})"},
    {"threads", "{}", R"({"threads": 2})"},
    {"seed", R"({"model_overrides": {"hidden_dropout_prob": 0.5}})", R"({"seed": 5})"},
    {"recompute", "{}", R"({"recompute": 2})"},
    {"memory_limit", "{}", R"({"memory_limit": 1000})"},
    {"optimizer_in_backward", "{}", R"({"optimizer_in_backward": true})"},
    {"strict", R"({"no_such_key": 1, "strict": false})", R"({"strict": true})"},
    // With several processes: tests/train/processes.cpp and faults.cpp. Here the log says what holds.
    {"comm.deadline_seconds", kTrace, R"({"comm": {"deadline_seconds": 7}})"},
    {"comm.join_seconds", kTrace, R"({"comm": {"join_seconds": 7}})"},
    {"comm.heartbeat_seconds", kTrace, R"({"comm": {"heartbeat_seconds": 7}})"},
    {"comm.secret_file", kTrace, R"({"comm": {"secret_file": "/nowhere"}})"},
    {"comm.interface", kTrace, R"({"comm": {"interface": "lo"}})"},
    {"distributed", "{}", R"({"distributed": "nccl"})"},
    {"parallel.tensor", "{}", R"({"parallel": {"tensor": 2}})"},
    {"parallel.pipeline", "{}", R"({"parallel": {"pipeline": 2}})"},
    {"parallel.data", "{}", R"({"parallel": {"data": 2}})"},
    {"parallel.sequence", "{}", R"({"parallel": {"sequence": 2}})"},
    {"parallel.sequence_attention", R"({"parallel": {"sequence": 2}})", R"({"parallel": {"sequence_attention": "ring"}})"},
    {"parallel.sequence_regions", R"({"parallel": {"tensor": 2, "sequence_regions": "off"}})",
     R"({"parallel": {"sequence_regions": "on"}})"},
    {"parallel.expert", "{}", R"({"parallel": {"expert": 2}})"},
    {"expert_parallel.autoep_size", "{}", R"({"expert_parallel": {"enabled": true, "autoep_size": 2}})"},
    {"moe.drop_tokens", R"({"model": "MODELS/mixtral"})", R"({"moe": {"drop_tokens": true, "min_capacity": 1, "capacity_factor": 0.5}})"},
    {"moe.capacity_factor", R"({"model": "MODELS/mixtral", "moe": {"drop_tokens": true, "min_capacity": 1}})",
     R"({"moe": {"capacity_factor": 0.3}})"},
    {"moe.eval_capacity_factor", R"({"model": "MODELS/mixtral", "moe": {"drop_tokens": true, "min_capacity": 1}})",
     R"({"moe": {"eval_capacity_factor": 0.3}})"},
    {"moe.min_capacity", R"({"model": "MODELS/mixtral", "moe": {"drop_tokens": true, "min_capacity": 1, "capacity_factor": 0.3}})",
     R"({"moe": {"min_capacity": 9}})"},
    {"sparse_attention.mode", SPARSE(""), R"({"sparse_attention": {"mode": "dense"}})"},
    {"sparse_attention.block", SPARSE(""), R"({"sparse_attention": {"block": 4}})"},
    {"sparse_attention.different_layout_per_head", SPARSE(", \"mode\": \"bigbird\", \"num_random_blocks\": 1"),
     R"({"sparse_attention": {"different_layout_per_head": true}})"},
    {"sparse_attention.num_local_blocks", SPARSE(""), R"({"sparse_attention": {"num_local_blocks": 3}})"},
    {"sparse_attention.num_global_blocks", SPARSE(""), R"({"sparse_attention": {"num_global_blocks": 2}})"},
    {"sparse_attention.attention", SPARSE(""), R"({"sparse_attention": {"attention": "unidirectional"}})"},
    {"sparse_attention.horizontal_global_attention", SPARSE(""), R"({"sparse_attention": {"horizontal_global_attention": true}})"},
    {"sparse_attention.num_different_global_patterns", SPARSE(", \"different_layout_per_head\": true"),
     R"({"sparse_attention": {"num_different_global_patterns": 2}})"},
    {"sparse_attention.num_random_blocks", SPARSE(", \"mode\": \"bigbird\""), R"({"sparse_attention": {"num_random_blocks": 2}})"},
    {"sparse_attention.local_window_blocks", SPARSE(", \"mode\": \"variable\""),
     R"({"sparse_attention": {"local_window_blocks": [1, 2]}})"},
    {"sparse_attention.global_block_indices", SPARSE(", \"mode\": \"variable\", \"local_window_blocks\": [1]"),
     R"({"sparse_attention": {"global_block_indices": [1]}})"},
    {"sparse_attention.global_block_end_indices", SPARSE(", \"mode\": \"variable\", \"local_window_blocks\": [1]"),
     R"({"sparse_attention": {"global_block_end_indices": [2]}})"},
    {"sparse_attention.num_sliding_window_blocks", SPARSE(", \"mode\": \"bslongformer\""),
     R"({"sparse_attention": {"num_sliding_window_blocks": 5}})"},
    {"parallel.local_ranks", "{}", R"({"parallel": {"local_ranks": 2}})"},
    {"sequence_parallel_size", "{}", R"({"sequence_parallel_size": 2})"},
    {"tensor_parallel.autotp_size", "{}", R"({"tensor_parallel": {"autotp_size": 2}})"},
    {"tensor_parallel.tp.tp_size", "{}", R"({"tensor_parallel": {"tp": {"tp_size": 2}}})"},
    {"pipeline.active_stages", R"({"parallel": {"pipeline": 2}})", R"({"pipeline": {"active_stages": 1}})"},
    {"pipeline.schedule", R"({"parallel": {"pipeline": 2}})", R"({"pipeline": {"schedule": "gpipe"}})"},
    {"pipeline.chunks", R"({"parallel": {"pipeline": 2}, "pipeline": {"schedule": "interleaved"}})", R"({"pipeline": {"chunks": 1}})"},
    {"pipeline.partition", R"({"parallel": {"pipeline": 2}})", R"({"pipeline": {"partition": "type:classifier"}})"},
    {"pipeline.partition_method", R"({"parallel": {"pipeline": 2}})", R"({"pipeline": {"partition_method": "type:classifier"}})"},
    {"pipeline.stages", "{}", R"({"pipeline": {"stages": 2}})"},
    {"communication_data_type", kTwo, R"({"communication_data_type": "bf16"})"},
    {"gradient_allreduce_op", R"({"parallel": {"data": 2}, "optimizer": {"type": "SGD", "params": {"lr": 0.01}}, "gradient_clipping": 0})",
     R"({"gradient_allreduce_op": "sum"})"},
    {"sparse_weights.enabled", "{}", R"({"sparse_weights": {"enabled": true}})"},
    {"sparse_weights.max_density", R"({"optimizer": null, "sparse_weights": {"enabled": true, "max_density": 1}})",
     R"({"sparse_weights": {"max_density": 0.1}})"},
    {"sparse_gradients", kTwo, R"({"sparse_gradients": true})"},
    {"zero_optimization.prefetch_bucket_size", DISK(""), R"({"zero_optimization": {"prefetch_bucket_size": 7}})"},
    {"zero_optimization.stage3_prefetch_bucket_size", DISK(""), R"({"zero_optimization": {"stage3_prefetch_bucket_size": 7}})"},
    {"zero_optimization.offload_param.device", ZERO(3, ""),
     R"({"zero_optimization": {"offload_param": {"device": "nvme", "nvme_path": "/tmp", "max_in_cpu": 0}}})"},
    {"zero_optimization.offload_param.nvme_path", DISK(""),
     R"({"zero_optimization": {"offload_param": {"nvme_path": "/dev/null/nvme_path"}}})"},
    {"zero_optimization.offload_param.buffer_count", DISK(""), R"({"zero_optimization": {"offload_param": {"buffer_count": 2}}})"},
    {"zero_optimization.offload_param.buffer_size", DISK(""), R"({"zero_optimization": {"offload_param": {"buffer_size": 9}}})"},
    {"zero_optimization.offload_param.max_in_cpu", DISK(""), R"({"zero_optimization": {"offload_param": {"max_in_cpu": 10000}}})"},
    {"zero_optimization.offload_optimizer.device", kTwo,
     R"({"zero_optimization": {"offload_optimizer": {"device": "nvme", "nvme_path": "/tmp"}}})"},
    {"zero_optimization.offload_optimizer.nvme_path", kTwo,
     R"({"zero_optimization": {"offload_optimizer": {"device": "nvme", "nvme_path": "/dev/null/nvme_path"}}})"},
    {"aio.block_size", DISK(""), R"({"aio": {"block_size": 4096}})"},
    {"aio.intra_op_parallelism", DISK(""), R"({"aio": {"intra_op_parallelism": 2}})"},
    {"aio.thread_count", DISK(""), R"({"aio": {"thread_count": 2}})"},
    {"zero_optimization.stage", kTwo, R"({"zero_optimization": {"stage": 1}})"},
    {"zero_optimization.reduce_bucket_size", ZERO(2, ""), R"({"zero_optimization": {"reduce_bucket_size": 2000}})"},
    {"zero_optimization.overlap_comm", R"({"parallel": {"data": 2}, "logger": {"default_verbosity": "TRACE"}})",
     R"({"zero_optimization": {"overlap_comm": true}})"},
    {"zero_optimization.allgather_bucket_size", ZERO(2, ""), R"({"zero_optimization": {"allgather_bucket_size": 2000}})"},
    {"zero_optimization.param_persistence_threshold", ZERO(3, ""), R"({"zero_optimization": {"param_persistence_threshold": 10}})"},
    {"zero_optimization.stage3_param_persistence_threshold", ZERO(3, ""),
     R"({"zero_optimization": {"stage3_param_persistence_threshold": 10}})"},
    {"zero_optimization.model_persistence_threshold", ZERO(3, ""), R"({"zero_optimization": {"model_persistence_threshold": 1000}})"},
    {"zero_optimization.stage3_model_persistence_threshold", ZERO(3, ""),
     R"({"zero_optimization": {"stage3_model_persistence_threshold": 1000}})"},
    {"zero_optimization.max_live_parameters", ZERO(3, R"(, "stage3_param_persistence_threshold": 10)"),
     R"({"zero_optimization": {"max_live_parameters": 100}})"},
    {"zero_optimization.stage3_max_live_parameters", ZERO(3, R"(, "stage3_param_persistence_threshold": 10)"),
     R"({"zero_optimization": {"stage3_max_live_parameters": 100}})"},
    {"zero_optimization.max_reuse_distance", ZERO(3, R"(, "stage3_param_persistence_threshold": 10)"),
     R"({"zero_optimization": {"max_reuse_distance": 0}})"},
    {"zero_optimization.stage3_max_reuse_distance", ZERO(3, R"(, "stage3_param_persistence_threshold": 10)"),
     R"({"zero_optimization": {"stage3_max_reuse_distance": 0}})"},
    {"zero_optimization.legacy_stage1", "{}", R"({"zero_optimization": {"legacy_stage1": true}})"},
    {"zero_optimization.offload_param", "{}", R"({"zero_optimization": {"offload_param": {"device": "cpu"}}})"},
    {"zero_optimization.offload_optimizer", "{}", R"({"zero_optimization": {"offload_optimizer": {"device": "cpu"}}})"},
    {"zero_optimization.cpu_offload", "{}", R"({"zero_optimization": {"cpu_offload": true}})"},
    {"zero_optimization.cpu_offload_param", "{}", R"({"zero_optimization": {"cpu_offload_param": true}})"},
    {"activation_checkpointing", "{}", R"({"activation_checkpointing": {"cpu_checkpointing": true}})"},
    {"steps_per_print", "{}", R"({"steps_per_print": 1})"},
    {"logger", kTrace, R"({"logger": {"default_verbosity": "ERROR"}})"},
    {"log_level", kTrace, R"({"logger": null, "log_level": "ERROR"})"},
    {"dump_state", kTrace, R"({"dump_state": true})"},
    {"checkpoint", kTrace, R"({"checkpoint": {"use_node_local_storage": true}})"},
};
// Read by programs, not by the engine: ds_engine_get hands it back as it is. And what only several processes show: train/job_calls.
const std::set<std::string> kElsewhere = {"data", "checkpoint.tag_validation"};

std::string log_text;
void on_log(int32_t level, const char* component, const char* message, void*) {
    const std::string text = message;
    // Times differ from run to run.
    if (level >= DS_LOG_DEBUG && text.find(" ms") == std::string::npos) log_text += std::string(component) + ": " + text + "\n";
}

ds_batch* batch_of(bool tokens_labelled, int step) {
    ds_batch* b = nullptr;
    ds_batch_create(&b);
    const int64_t shape[2] = {2, 12}, rows[1] = {2};
    int32_t ids[24], labels[24];
    const int32_t classes[2] = {step % 3, (step + 1) % 3};
    for (int i = 0; i < 24; ++i) ids[i] = 5 + (i * 7 + step) % 80, labels[i] = i % (2 + 3 * (step % 2)) ? -100 : i % 3;
    const auto put = [&](const char* name, int32_t rank, const int64_t* dims, const int32_t* values, size_t n) {
        ds_tensor* t = nullptr;
        ds_tensor_create(DS_I32, rank, dims, values, n * 4, &t);
        ds_batch_set(b, name, t);
        ds_tensor_destroy(t);
    };
    put("input_ids", 2, shape, ids, 24);
    if (tokens_labelled) put("labels", 2, shape, labels, 24);
    else put("labels", 1, rows, classes, 2);
    return b;
}

// What a run of this config does, as text; "error: ..." where it is refused.
std::string run(Json config) {
    log_text.clear();
    const bool poison = config.contains("POISON");
    config.erase("POISON");
    for (const auto& key : std::vector<std::string>{"train_batch_size"})
        if (config[key].is_null()) config.erase(key);
    const bool tokens_labelled = config["model"].get<std::string>().find("sentiment") == std::string::npos;
    std::string text, dump = config.dump();
    char* report = nullptr;
    ds_engine* e = nullptr;
    if (ds_plan(dump.c_str(), nullptr, &report) < 0) return std::string("error: ") + ds_last_error();
    text = report;
    ds_free(report);
    if (ds_engine_create(dump.c_str(), nullptr, &e) < 0) return std::string("error: ") + ds_last_error();
    for (int i = 0; i < 8; ++i) {
        ds_batch* b = batch_of(tokens_labelled, i);
        float loss = 0;
        const ds_status status[] = {ds_forward(e, b, &loss), ds_backward(e)};
        ds_batch_destroy(b);
        if (status[0] < 0 || status[1] < 0) text += std::string("error: ") + ds_last_error();
        if (poison && i % 4 == 1) {
            const int64_t shape[1] = {3};
            const float nans[3] = {NAN, NAN, NAN};
            ds_tensor* t = nullptr;
            ds_tensor_create(DS_F32, 1, shape, nans, 12, &t);
            if (ds_param_set(e, "classifier.bias", DS_GRAD, t) < 0) text += ds_last_error();
            ds_tensor_destroy(t);
        }
        text += "loss " + std::to_string(loss) + " step " + std::to_string(ds_step(e)) + "\n";
    }
    ds_batch* last = batch_of(tokens_labelled, 8);
    float last_loss = 0;
    if (ds_eval(e, last, &last_loss) < 0) text += std::string("eval: ") + ds_last_error();
    text += "eval " + std::to_string(last_loss) + "\n";
    ds_batch_destroy(last);
    size_t n = 0;
    ds_param_count(e, &n);
    for (size_t i = 0; i < n; ++i) {
        const char* name;
        ds_tensor* t = nullptr;
        int32_t rank;
        const int64_t* shape;
        size_t count = 1;
        ds_param_name(e, i, &name);
        ds_param_get(e, name, DS_WEIGHT, &t);
        ds_tensor_info(t, nullptr, &rank, &shape);
        for (int d = 0; d < rank; ++d) count *= static_cast<size_t>(shape[d]);
        std::vector<float> values(count);
        ds_tensor_read(t, DS_F32, values.data(), count * 4);
        ds_tensor_destroy(t);
        double sum = 0;
        for (const float v : values) sum += static_cast<double>(v) * static_cast<double>(v);
        text += std::string(name) + " " + ds::Json(sum).dump() + "\n";
    }
    ds_data* data = nullptr;
    const std::string rows =
        R"({"files": [")" + std::string(DSRT_TEST_DATA) +
        R"(/config_live.jsonl"], "task": "sequence_classification", "columns": {"input_ids": "ids", "label": "label"}})";
    if (ds_data_open(rows.c_str(), e, &data) < 0) text += std::string("data: ") + ds_last_error();
    else {
        ds_batch* b = nullptr;
        ds_batch_create(&b);
        ds_status status;
        while ((status = ds_data_next(data, b)) == DS_OK) {
            ds_tensor* t = nullptr;
            int32_t rank;
            const int64_t* shape;
            if (ds_batch_get(b, "input_ids", &t) == DS_OK && ds_tensor_info(t, nullptr, &rank, &shape) == DS_OK)
                text += "batch " + std::to_string(shape[0]) + " x " + std::to_string(shape[1]) + "\n";
            ds_tensor_destroy(t);
        }
        if (status < 0) text += std::string("data: ") + ds_last_error();
        ds_batch_destroy(b);
        ds_data_destroy(data);
    }
    for (const char* name : {"lr", "momentum", "loss_scale", "grad_norm", "global_steps", "global_samples", "skipped_steps", "micro_steps",
                             "plan_bytes", "threads", "steps_per_epoch"}) {
        double x = 0;
        if (ds_metric(e, name, &x) == DS_OK) text += std::string(name) + " " + std::to_string(x) + "\n";
    }
    ds_engine_destroy(e);
    return text + log_text;
}

std::string first_difference(const std::string& a, const std::string& b) {
    size_t at = 0;
    while (at < a.size() && at < b.size() && a[at] == b[at]) ++at;
    const size_t begin = at ? a.rfind('\n', at - 1) + 1 : 0;
    return a.substr(begin, 120) + " | " + b.substr(begin, 120);
}

std::string last_part(std::string key) {
    for (const char* cut : {"[]"})
        if (const auto at = key.find(cut); at != std::string::npos) key.erase(at, 2);
    return key.substr(key.rfind('.') + 1);
}

Json with_models(const char* text) {
    std::string s = text;
    if (const auto at = s.find("MODELS"); at != std::string::npos) s.replace(at, 6, std::string(DSRT_TEST_DATA) + "/models");
    return Json::parse(s);
}

}  // namespace

int main() {
    ds_set_log(on_log, DS_LOG_TRACE, nullptr, nullptr);
    std::set<std::string> tested = kElsewhere;
    for (const Row& row : kRows) {
        Json base = {{"model", std::string(DSRT_TEST_DATA) + "/models/bert-sentiment"},
                     {"tokenizer", std::string(DSRT_TEST_DATA) + "/tokenizers/bert/tokenizer.json"},
                     {"train_batch_size", 4},
                     {"train_micro_batch_size_per_gpu", 2},
                     {"threads", 1}};
        base.merge_patch(Json::parse(kAdam));
        if (std::string_view(row.base).find("optimizer") != std::string_view::npos) base.erase("optimizer");
        base.merge_patch(with_models(row.base));
        Json flipped = base;
        flipped.merge_patch(with_models(row.flipped));
        const std::string key = row.key, before = run(base), again = run(base), after = run(flipped);
        check(before == again, key + ": two runs of one config differ: " + first_difference(before, again));
        check(!before.starts_with("error") || key == "strict", key + ": the config to compare with is refused: " + before.substr(0, 300));
        if (after.starts_with("error"))
            check(after != before &&
                      (after.find(last_part(key)) != std::string::npos || key == "model" || after.find("no_such") != std::string::npos),
                  key + ": refused, but the message does not name it: " + after.substr(0, 300));
        else check(after != before, key + ": nothing changes");
        for (std::string part = key; !part.empty();
             part = part.find_last_of(".[") == std::string::npos ? "" : part.substr(0, part.find_last_of(".[")))
            tested.insert(part);
    }
    char* text = nullptr;
    ds_config_describe(&text);
    const Json keys = Json::parse(text);
    ds_free(text);
    for (const auto& [key, about] : keys.items())
        if (about.value("status", std::string()).starts_with("live"))
            check(tested.count(key) > 0, key + " is live, but no row here tries it");
    return checks::result();
}
