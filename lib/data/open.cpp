// open_data: options -> table -> task -> samples -> loader.
#include "data/open.h"

#include <algorithm>

#include "base/log.h"

namespace ds {
namespace {

int64_t first_of(int64_t a, int64_t b) { return a != 0 ? a : b; }

Status prepare_columns(const DataOptions& options, const std::string& format, Columns& columns) {
    if (format == "text") {
        if (options.columns.empty()) {
            columns.add({"text", int64_t{0}, Json::object()});
            return ok();
        }
        const Column& only = columns.all()[0];
        const bool text =
            columns.all().size() == 1 && only.role == "text" && (only.source_text() == "0" || only.source_text() == "\"text\"");
        return text ? ok()
                    : fail(Code::E_CONFIG, "data: columns: found {}, format \"text\" has the one column \"text\"",
                           excerpt(options.columns.dump()));
    }
    if (options.columns.empty())
        return fail(Code::E_CONFIG, "data: columns: missing; format \"{}\" needs to know which column is the text", format);
    return ok();
}

// The tokenizer, lengths and pad id that the task works with.
Status prepare(TaskSetup& setup, const std::string& format, const std::string& task, const DataContext& context) {
    DataOptions& o = setup.options;
    setup.by_tokens = context.tokens_per_batch > 0 && o.tokens_per_batch == 0 && o.batch_size == 0;
    if (setup.by_tokens) o.tokens_per_batch = context.tokens_per_batch;
    setup.max_length = first_of(o.max_length, context.max_length);
    setup.num_labels = context.num_labels;
    setup.label_names = context.label_names;
    setup.problem = context.problem;
    setup.vocabulary_size = context.vocabulary_size;
    setup.max_target_length = first_of(o.max_target_length, setup.max_length);
    setup.target_vocabulary_size = first_of(context.target_vocabulary_size, context.vocabulary_size);
    setup.tokenizer = context.tokenizer;
    if (!o.tokenizer.empty()) { DS_TRY(setup.tokenizer, Tokenizer::load(o.tokenizer)); }
    if (!setup.tokenizer && !setup.columns.has("input_ids"))
        return fail(Code::E_CONFIG, "data: tokenizer: missing; texts need one (a path)");
    if (setup.tokenizer) setup.pad_id = setup.tokenizer->pad_id().value_or(setup.tokenizer->eos_id().value_or(0));
    if (setup.vocabulary_size > 0 && setup.pad_id >= setup.vocabulary_size) setup.pad_id = 0;
    const bool blocks = task == "causal" || task == "mlm";
    if (blocks && format == "text" && o.block_length == 0) o.block_length = setup.max_length;
    if (blocks && format == "text" && o.block_length == 0)
        return fail(Code::E_CONFIG, "data: block_length: missing; plain text is cut into rows of this many tokens (max_length serves too)");
    if (o.block_length > 0 && setup.max_length > 0 && o.block_length > setup.max_length)
        return fail(Code::E_CONFIG, "data: block_length {} is larger than max_length {}", o.block_length, setup.max_length);
    if (o.block_length > 0 && setup.columns.has("pair")) return fail(Code::E_CONFIG, "data: block_length: has no effect with columns.pair");
    if (o.pack && o.block_length == 0) return fail(Code::E_CONFIG, "data: pack: has no effect without block_length");
    if (o.padding == "max_length" && setup.max_length == 0) return fail(Code::E_CONFIG, "data: padding: \"max_length\" needs max_length");
    return ok();
}

Result<LoaderRules> loader_rules(const TaskSetup& setup, const DataTask& task, const DataContext& context) {
    const DataOptions& o = setup.options;
    LoaderRules rules;
    rules.shard_rank = o.shard.empty() ? context.shard_rank : o.shard["rank"].get<int64_t>();
    rules.workers = o.workers;
    rules.prefetch = o.prefetch;
    OrderRules& order = rules.order;
    order.shards = o.shard.empty() ? context.shard_count : o.shard["count"].get<int64_t>();
    order.seed = o.seed ? static_cast<uint64_t>(*o.seed) : context.seed;
    order.shuffle = o.shuffle;
    order.group_by_length = o.group_by_length;
    order.group_batches = o.group_batches;
    order.drop_last = o.drop_last || context.drop_last;
    order.parts = setup.by_tokens ? order.shards * context.data_ranks : order.shards;
    order.tokens_per_part = o.tokens_per_batch;
    if (setup.by_tokens) {
        order.drop_long = true;
        order.min_rows = context.min_rows * order.parts;
        order.max_rows = context.max_rows * order.parts;
        order.sorted = context.picking_order == "seqlen";
        if (context.picking_order != "dataloader") order.shuffle = !order.sorted;
    }
    order.curriculum = context.curriculum;
    if (!order.curriculum.metrics.empty() && (o.tokens_per_batch > 0 || o.group_by_length))
        return fail(Code::E_UNSUPPORTED,
                    "data: {}: not built together with data_efficiency.data_sampling.curriculum_learning, which deals out rows",
                    o.group_by_length ? "group_by_length" : "tokens_per_batch");
    if (o.tokens_per_batch == 0) order.rows_per_batch = first_of(o.batch_size, context.rows_per_batch) * order.shards;
    if (order.rows_per_batch == 0 && order.tokens_per_part == 0)
        return fail(Code::E_CONFIG, "data: batch_size: missing; rows a batch, or tokens_per_batch");
    CollateRules& collate = rules.collate;
    collate.target = task.target();
    collate.types = task.emits_types();
    collate.pad_id = setup.pad_id;
    collate.multiple = o.pad_to_multiple_of;
    collate.fixed_length = o.padding == "max_length" ? setup.max_length : 0;
    collate.fixed_target = o.padding == "max_length" ? setup.max_target_length : 0;
    collate.dtype = o.dtype == "i32" ? DType::i32 : DType::i64;
    return rules;
}

// How difficult each sample is. Some row must be easy enough at the start.
Status measure(const Samples& samples, RowCurriculum& curriculum) {
    for (const CurriculumMetric& metric : curriculum.metrics) {
        if (!samples.has_rows() && metric.name != "seqlen")
            return fail(Code::E_CONFIG,
                        "data: curriculum metric {}: with block_length rows are cut from running text; seqlen goes by tokens", metric.name);
        DS_TRY(auto values, samples.values_of(metric));
        curriculum.values.push_back(std::move(values));
    }
    if (!curriculum.metrics.empty() && easy_rows(curriculum, samples.size(), 1).empty()) {
        std::string least;
        for (const CurriculumMetric& metric : curriculum.metrics)
            least += fmt::format("{}{} {}{}", least.empty() ? "" : " and ", metric.name, metric.difficulty(1),
                                 metric.percentile ? " percentiles" : "");
        return fail(Code::E_CONFIG,
                    "data: curriculum: no row is easy enough for the first update ({} at most); a larger min_difficulty is needed", least);
    }
    return ok();
}

// A limit of tokens is below some rows: DeepSpeed, too, leaves them out of dynamic batches.
Status tell_long_rows(const Samples& samples, const OrderRules& order) {
    if (order.tokens_per_part == 0) return ok();
    const auto longer = std::count_if(samples.lengths().begin(), samples.lengths().end(),
                                      [&](uint32_t tokens) { return int64_t{tokens} > order.tokens_per_part; });
    if (longer == 0) return ok();
    if (!order.drop_long) {
        log(Level::warn, "data", "{} of {} rows have more tokens than tokens_per_batch ({}): each is a batch of its own", longer,
            samples.size(), order.tokens_per_part);
    } else if (longer < samples.size()) {
        log(Level::warn, "data", "{} of {} rows have more tokens than dynamic_batching.max_tokens ({}): left out", longer, samples.size(),
            order.tokens_per_part);
    } else {
        return fail(Code::E_INVALID_ARGUMENT, "data: all {} rows have more tokens than dynamic_batching.max_tokens ({})", longer,
                    order.tokens_per_part);
    }
    return ok();
}

}  // namespace

Result<OpenedSamples> open_samples(const Json& options, const DataContext& engines) {
    TaskSetup setup;
    DS_TRY(setup.options, parse_data_options(options));
    DataContext context = engines;
    const bool test = !setup.options.split.empty() && setup.options.split["take"] == "test";
    if (test) context.tokens_per_batch = 0;
    if (test || !setup.options.shuffle) context.curriculum = {};  // easy rows first is for training, and an order of its own
    DS_TRY(setup.columns, Columns::parse(setup.options.columns));
    DS_TRY(const FormatRow* format, format_of(setup.options));
    DS_CHECK(prepare_columns(setup.options, format->name, setup.columns));
    const std::string wanted = setup.options.task.empty() ? context.task : setup.options.task;
    DS_TRY(const TaskRow* row, task_row(wanted, setup.columns));
    DS_CHECK(check_options_apply(options, format->name, row->name));
    DS_CHECK(check_roles(*row, setup.columns));
    DS_CHECK(prepare(setup, format->name, row->name, context));
    for (const CurriculumMetric& metric : context.curriculum.metrics) {
        if (metric.name == "seqlen") continue;
        if (format->name == std::string_view("text"))
            return fail(Code::E_CONFIG, "data: curriculum metric {}: format \"text\" has no columns; seqlen goes by tokens", metric.name);
        Column column{metric_role(metric.name), metric.name, Json::object()};
        if (metric.column.is_number_integer()) column.source = metric.column.get<int64_t>();
        else if (metric.column.is_string()) column.source = metric.column.get<std::string>();
        setup.columns.add(std::move(column));
    }
    DS_TRY(std::unique_ptr<DataTask> task, row->make(setup));
    DS_TRY(LoaderRules rules, loader_rules(setup, *task, context));
    DS_TRY(Table table, Table::open(setup.options, setup.columns));
    DS_TRY(Samples samples, Samples::open(std::move(table), std::move(task), setup));
    return OpenedSamples{std::move(samples), std::move(rules), row->name};
}

Result<std::shared_ptr<DataSource>> open_data(const Json& options, const DataContext& context) {
    DS_TRY(OpenedSamples opened, open_samples(options, context));
    DS_CHECK(measure(opened.samples, opened.rules.order.curriculum));
    DS_CHECK(tell_long_rows(opened.samples, opened.rules.order));
    return std::shared_ptr<DataSource>(std::make_shared<Loader>(std::move(opened.samples), std::move(opened.rules)));
}

}  // namespace ds
