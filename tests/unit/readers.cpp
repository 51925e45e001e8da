// lib/data/readers and tasks: what files become, and what bad files are told.
#include "data_support.h"

#include <algorithm>
#include <chrono>

#include "data/random.h"
#include "data/readers/table.h"

using namespace data_support;

namespace {

const Json kText = {{"text", "text"}, {"label", "label"}};

std::string csv_failure(const std::string& contents, Json more = Json::object()) {
    Folder folder;
    Json options = {{"files", folder.write("a.csv", contents)}, {"columns", kText}};
    options.update(more);
    std::string text = failure(options, context("sequence_classification", 2));
    const std::string prefix = folder.path.string() + "/";
    if (text.starts_with(prefix)) text.erase(0, prefix.size());
    return text;
}

std::string jsonl_failure(const std::string& contents, const std::string& name = "a.jsonl", Json more = Json::object()) {
    Folder folder;
    Json options = {{"files", folder.write(name, contents)}, {"columns", kText}};
    options.update(more);
    std::string text = failure(options, context("sequence_classification", 2));
    const std::string prefix = folder.path.string() + "/";
    if (text.starts_with(prefix)) text.erase(0, prefix.size());
    return text;
}

// The records of a file, as texts.
std::vector<std::vector<std::string>> read_all(const std::string& name, const std::string& contents, Json options, const Json& columns) {
    Folder folder;
    options["files"] = folder.write(name, contents);
    options["columns"] = columns;
    const auto parsed = parse_data_options(options);
    REQUIRE_MESSAGE(parsed.ok(), parsed.status().message());
    const auto asked = Columns::parse(columns);
    REQUIRE(asked.ok());
    const auto table = Table::open(parsed.value(), asked.value());
    REQUIRE_MESSAGE(table.ok(), table.status().message());
    std::vector<std::vector<std::string>> out;
    for (int64_t row = 0; row < table.value().size(); ++row) {
        const auto record = table.value().read(row);
        REQUIRE_MESSAGE(record.ok(), record.status().message());
        out.emplace_back();
        for (const auto& value : record.value()) out.back().push_back(value.text);
    }
    return out;
}

using Rows = std::vector<std::vector<std::string>>;

}  // namespace

TEST_CASE("a_file_cut_short_while_it_is_open_fails_the_read_that_meets_it") {
    Folder folder;
    std::string lines;
    for (int i = 0; i < 4000; ++i) lines += std::to_string(1000 + i) + "\n";
    const std::string path = folder.write("a.txt", lines);
    const auto options = parse_data_options({{"files", path}, {"document", "line"}});
    REQUIRE(options.ok());
    const auto asked = Columns::parse({{"text", "text"}});
    REQUIRE(asked.ok());
    const auto table = Table::open(options.value(), asked.value());
    REQUIRE_MESSAGE(table.ok(), table.status().message());
    std::filesystem::resize_file(path, 5 * 900);
    CHECK(table.value().read(899).value()[0].text == "1899");
    const auto behind = table.value().read(900), gone = table.value().read(3999);
    REQUIRE((!behind.ok() && !gone.ok()));
    CHECK(behind.status().message() == path + ": was changed after it was opened: there are NUL bytes behind byte 4500");
    CHECK(gone.status().message() == path + ": ended before byte 19999, though it had 20000 when it was opened");
    CHECK(table.value().place(3999) == path + ": byte 19995");
    std::filesystem::remove(path);
    CHECK(table.value().read(0).value()[0].text == "1000");
}

TEST_CASE("files/the_place_of_every_row_of_a_long_file_is_found_in_little_time") {
    Folder folder;
    constexpr int64_t kRows = 40000;
    const std::string line(249, 'x'), path = folder.write("a.txt", [&] {
        std::string text;
        for (int64_t i = 0; i < kRows; ++i) text += line + "\n";
        return text;
    }());
    const auto options = parse_data_options({{"files", path}, {"document", "line"}});
    REQUIRE(options.ok());
    const auto table = Table::open(options.value(), Columns::parse({{"text", "text"}}).value());
    REQUIRE_MESSAGE(table.ok(), table.status().message());
    const auto begin = std::chrono::steady_clock::now();
    int64_t right = 0;
    for (int64_t row = kRows - 1; row >= 0; --row)
        right += table->place(row) == fmt::format("{}: line {} (byte {})", path, row + 1, row * 250);
    CHECK(right == kRows);
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(10));  // reading the file for each of them takes minutes
}

TEST_CASE("csv/a_field_of_many_quotes_is_read_in_little_time") {
    constexpr size_t kQuotes = 2000000;
    std::string field, text;
    for (size_t i = 0; i < kQuotes; ++i) field += "a\"\"", text += "a\"";
    const auto begin = std::chrono::steady_clock::now();
    CHECK(read_all("a.csv", "\"" + field + "\",1\n", {{"max_record_bytes", 8 * kQuotes}}, {{"text", 0}}) == Rows{{text}});
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(10));  // moving the rest at each quote takes minutes
}

TEST_CASE("csv/quoted_fields_keep_delimiters_quotes_and_line_ends") {
    const Rows rows = read_all("a.csv", "id,text\r\n1,\"a, \"\"b\"\"\r\nc\"\r\n2,plain \"x\" text\n\n3,\"\"\n4,\n5,last", {},
                               {{"label", "id"}, {"text", "text"}});
    CHECK(rows == Rows{{"1", "a, \"b\"\r\nc"}, {"2", "plain \"x\" text"}, {"3", ""}, {"4", ""}, {"5", "last"}});
}

TEST_CASE("csv/a_byte_order_mark_is_not_part_of_the_first_column") {
    CHECK(read_all("a.csv", "\xef\xbb\xbftext,b\nx,1\n", {}, {{"text", "text"}}) == Rows{{"x"}});
}

TEST_CASE("csv/columns_by_index_mean_no_header_unless_said") {
    CHECK(read_all("a.csv", "a,b\nc,d\n", {}, {{"text", 1}}) == Rows{{"b"}, {"d"}});
    CHECK(read_all("a.csv", "a,b\nc,d\n", {{"header", true}}, {{"text", 1}}) == Rows{{"d"}});
    CHECK(read_all("a.csv", "a;b\nc;d\n", {{"delimiter", ";"}}, {{"text", 0}}) == Rows{{"a"}, {"c"}});
}

TEST_CASE("tsv/without_quoting_every_character_is_text") {
    CHECK(read_all("a.txt", "1\t\"open\r\n2\t''x'' \"y\"\r\n", {{"format", "tsv"}, {"quoting", false}}, {{"text", 1}}) ==
          Rows{{"\"open"}, {"''x'' \"y\""}});
}

TEST_CASE("csv/bad_rows_are_told_with_file_line_byte_and_what_is_accepted") {
    CHECK(csv_failure("text,label\na,0\nb,\"1\n") ==
          "a.csv: line 3 (byte 17): the quote that opens here is never closed; a closing \" is needed, or \"quoting\": false");
    CHECK(csv_failure("text,label\n\"a\"x,0\n") ==
          "a.csv: line 2 (byte 14): found 'x' after a closing quote; the delimiter or a line end is accepted");
    CHECK(csv_failure("text,label\na,0,1\n") == "a.csv: line 2 (byte 11): found 3 fields, 2 are accepted, as in the header");
    CHECK(csv_failure("text,label\na\n") == "a.csv: line 2 (byte 11): found 1 fields, 2 are accepted, as in the header");
    CHECK(csv_failure(std::string("text,label\na\0b,0\n", 16)) == "a.csv: line 2 (byte 12): found a NUL byte; text in UTF-8 is accepted");
    CHECK(csv_failure("text,label\na\xe9z,0\n") ==
          "a.csv: line 2 (byte 12): found byte 0xe9, which is not UTF-8 here; UTF-8 is accepted, or \"utf8\": \"replace\"");
    CHECK(csv_failure("\xff\xfe"
                      "t") == "a.csv: begins with the byte order mark of UTF-16; UTF-8 is accepted");
    CHECK(csv_failure("txt,label\na,0\n") ==
          "a.csv: line 1 (byte 0): column \"text\" for text is not in the header; did you mean \"txt\"?");
    CHECK(csv_failure("text,text,label\na,b,0\n") ==
          "a.csv: line 1 (byte 0): column \"text\" appears twice in the header; an index is accepted");
    CHECK(csv_failure("text,label\na,2\n") == "a.csv: line 2 (byte 11): column label: found 2, an integer from 0 to 1 is accepted");
    CHECK(csv_failure("text,label\na,good\n") ==
          "a.csv: line 2 (byte 11): column label: found the text \"good\", an integer from 0 to 1 is accepted, or give the names of the "
          "classes (\"names\", \"map\" or \"auto\")");
    CHECK(csv_failure(std::string(5000, ',')) == "a.csv: line 1 (byte 0): found 5001 fields, up to 4096 are accepted");
    CHECK(csv_failure("") == "a.csv: has no rows after the header");
    CHECK(csv_failure("text,label\n") == "a.csv: has no rows after the header");
    CHECK(csv_failure("text,label\ra,0\rb,1\r") == "a.csv: lines end in a carriage return alone; a line feed, or both, is accepted");
    CHECK(csv_failure("text,label\n" + std::string(200, 'x') + ",0\n", {{"max_record_bytes", 100}}) ==
          "a.csv: line 2 (byte 11): a record longer than max_record_bytes (100)");
    CHECK(csv_failure("text,label\n\"" + std::string(200, 'x') + ",0\n", {{"max_record_bytes", 100}}) ==
          "a.csv: line 2 (byte 11): the quote that opens here is not closed within max_record_bytes (100)");
    CHECK(csv_failure("a,b\n", {{"columns", {{"text", 5}}}}) ==
          "a.csv: line 1 (byte 0): column 5 for text does not exist; the first row has 2 fields, counted from 0");
    CHECK(csv_failure("a,b\n", {{"header", false}}) ==
          "data: columns: label: column \"label\" is a name, but the files have no header; an index is accepted");
}

TEST_CASE("csv/bad_rows_can_be_skipped_and_are_counted") {
    Folder folder;
    const Json options = {{"files", folder.write("a.csv", "text,label\na,0\nb\nc,9\nd,1\n")}, {"columns", kText}, {"bad_rows", "skip"}};
    const auto opened = open_data(options, context("sequence_classification", 2));
    REQUIRE(opened.ok());
    CHECK(opened.value()->rows() == 2);
    CHECK(opened.value()->skipped_rows() == 2);
}

TEST_CASE("csv/without_check_a_bad_row_is_told_when_its_batch_is_due_and_again") {
    Folder folder;
    const Json options = {
        {"files", folder.write("a.csv", "text,label\na,0\nb,1\nc,9\nd,1\n")}, {"columns", kText}, {"check", false}, {"shuffle", false}};
    const auto opened = open_data(options, context("sequence_classification", 2));
    REQUIRE(opened.ok());
    Batch batch;
    CHECK(opened.value()->next(batch).code() == Code::OK);
    for (int i = 0; i < 2; ++i) CHECK_SAYS(opened.value()->next(batch).message(), "line 4 (byte 19): column label: found 9");
}

TEST_CASE("utf8/bad_parts_become_one_replacement_character_each") {
    CHECK(replace_bad_utf8("a\xe9z") == "a\xef\xbf\xbdz");
    CHECK(replace_bad_utf8("\xf0\x9f\x98") == "\xef\xbf\xbd");
    CHECK(replace_bad_utf8("\xed\xa0\x80") == "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    CHECK(replace_bad_utf8("\xe2\x82\xac \xf0\x9f\x98\x80") == "\xe2\x82\xac \xf0\x9f\x98\x80");
    CHECK(bad_utf8("ab\xc3") == 2);
    CHECK(read_all("a.csv", "t\xe9t\n", {{"utf8", "replace"}}, {{"text", 0}}) == Rows{{"t\xef\xbf\xbdt"}});
    CHECK(read_all("a.jsonl", "{\"text\": \"t\xe9t\"}\n", {{"utf8", "replace"}}, {{"text", "text"}}) == Rows{{"t\xef\xbf\xbdt"}});
    CHECK(read_all("a.jsonl", "{\"text\": \"\\\\ud800 \\ud83d\\ude00 \\uD800\\ud800\\uDC00 \\udfff\"}\n", {{"utf8", "replace"}},
                   {{"text", "text"}}) == Rows{{"\\ud800 \xf0\x9f\x98\x80 \xef\xbf\xbd\xf0\x90\x80\x80 \xef\xbf\xbd"}});
}

TEST_CASE("json/rows_of_an_array_and_rows_on_lines_read_the_same") {
    const Json columns = {{"text", "t"}, {"label", "n"}, {"pair", "a.b"}};
    const Rows expected = {{"1.5", "x", "q\n\"]}"}, {"-3", "y", "\xe2\x82\xac"}};
    CHECK(read_all("a.json",
                   "\xef\xbb\xbf [ {\"t\":\"q\\n\\\"]}\", \"n\": 1.5, \"a\": {\"b\": \"x\"}},\n {\"a.b\": \"y\", \"n\": -3, \"t\": "
                   "\"\\u20ac\"} ]\n",
                   {}, columns) == Rows{{"1.5", "x", "q\n\"]}"}, {"-3", "y", "\xe2\x82\xac"}});
    CHECK(read_all("a.jsonl",
                   "{\"t\":\"q\\n\\\"]}\", \"n\": 1.5, \"a\": {\"b\": \"x\"}}\r\n \n{\"a.b\": \"y\", \"n\": -3, \"t\": \"\\u20ac\"}", {},
                   columns) == expected);
    CHECK(read_all("b.jsonl", "[\"x\", 7]\n[\"y\", true]\n", {}, {{"text", 0}, {"label", 1}}) == Rows{{"7", "x"}, {"true", "y"}});
}

TEST_CASE("json/bad_rows_are_told_with_file_line_byte_and_what_is_accepted") {
    const std::string good = "{\"text\": \"a\", \"label\": 0}\n";
    CHECK_SAYS(jsonl_failure(good + "{\"text\": \"a\", \"label\": }\n"), "a.jsonl: line 2 (byte 26): not valid JSON: ");
    CHECK_SAYS(jsonl_failure(good + "{\"text\": \"a\", \"label\": 0} x\n"), "line 2 (byte 26): not valid JSON: ");
    CHECK_SAYS(jsonl_failure(good + "{\"text\": \"a\", \"label\": NaN}\n"), "line 2 (byte 26): not valid JSON: ");
    CHECK(jsonl_failure(good + "{\"text\": \"\\\\ud800 \\ud83d\\ude00 \\uDBFFx\", \"label\": 0}\n") ==
          "a.jsonl: line 2 (byte 57): found \\uDBFF, half of a surrogate pair, which is no character; whole pairs are accepted, or "
          "\"utf8\": \"replace\"");
    CHECK_SAYS(jsonl_failure("{\"text\": \"\\ud8zz\", \"label\": 0}\n"), "line 1 (byte 0): not valid JSON: ");
    CHECK_SAYS(jsonl_failure("[{\"text\": \"a\", \"label\": 0},\n{\"text\": \"b\", \"label\": 0}]\n"),
               "; an array over several lines is format \"json\"");
    CHECK(jsonl_failure(good + "{\"txt\": \"a\", \"label\": 0}\n") ==
          "a.jsonl: line 2 (byte 26): column \"text\" for text is missing; did you mean \"txt\"?");
    CHECK(jsonl_failure(good + "{\"text\": 5, \"label\": 0}\n") ==
          "a.jsonl: line 2 (byte 26): column text: found the number 5, a text is accepted");
    CHECK(jsonl_failure(good + "{\"text\": \"a\", \"label\": null}\n") ==
          "a.jsonl: line 2 (byte 26): column label: found null, accepted: an integer from 0 to 1");
    CHECK(jsonl_failure(good + "{\"text\": \"a\", \"text\": \"b\", \"label\": 0}\n") ==
          "a.jsonl: line 2 (byte 26): key \"text\" for text appears twice in one object");
    CHECK(jsonl_failure(good + "7\n") == "a.jsonl: line 2 (byte 26): found the number 7, an object is accepted");
    CHECK(jsonl_failure("{\"text\": " + std::string(100, '[') + std::string(100, ']') + "}\n") ==
          "a.jsonl: line 1 (byte 0): nested deeper than 64 levels");
    CHECK(jsonl_failure("\n\n") == "a.jsonl: has no rows");
    CHECK(jsonl_failure("{\"text\": \"" + std::string(200, 'x') + "\"}\n", "a.jsonl", {{"max_record_bytes", 64}}) ==
          "a.jsonl: line 1 (byte 0): a record longer than max_record_bytes (64)");
    CHECK(jsonl_failure("{\"text\": 1}", "a.json") ==
          "a.json: line 1 (byte 0): found '{', an array of rows is accepted; objects on lines of their own are format \"jsonl\"");
    CHECK(jsonl_failure("[{\"text\": 1} {", "a.json") == "a.json: line 1 (byte 13): found '{', ',' or ']' is accepted");
    CHECK(jsonl_failure("[{\"text\": \"]}", "a.json") == "a.json: line 1 (byte 1): the row that begins here does not end");
    CHECK(jsonl_failure("[{\"text\": 1},", "a.json") == "a.json: line 1 (byte 13): ends where an object is accepted");
    CHECK(jsonl_failure("[{}] x", "a.json") == "a.json: line 1 (byte 5): found 'x', the file's end is accepted");
    CHECK(jsonl_failure("[" + std::string(100, '[') + std::string(100, ']') + "]", "a.json") ==
          "a.json: line 1 (byte 1): nested deeper than 64 levels");
    CHECK(jsonl_failure("[]", "a.json") == "a.json: has no rows");
}

TEST_CASE("text/documents_are_files_lines_paragraphs_or_cut_by_a_separator") {
    const std::string text = "one\ntwo\n\n  \nthree\r\n\nfour";
    const auto documents = [&](const char* kind) {
        std::vector<std::string> out;
        for (const auto& row : read_all("a.txt", text, {{"document", kind}}, {{"text", 0}})) out.push_back(row[0]);
        return out;
    };
    using Texts = std::vector<std::string>;
    CHECK(documents("file") == Texts{text});
    CHECK(documents("line") == Texts{"one", "two", "three", "four"});
    CHECK(documents("paragraph") == Texts{"one\ntwo", "three", "four"});
    CHECK(documents("three") == Texts{"one\ntwo\n\n  \n", "\r\n\nfour"});
}

TEST_CASE("files/lists_and_patterns_are_read_in_order") {
    Folder folder;
    folder.write("b.csv", "text,label\nb,1\n");
    folder.write("a.csv", "label,text\n0,a\n");
    const std::string c = folder.write("c.csv", "text,label\nc,1\n");
    const auto read = batches({{"files", {c, folder.path.string() + "/[ab].csv"}}, {"columns", kText}, {"batch_size", 3}}, context("", 2));
    REQUIRE(read.size() == 1);
    CHECK(ints(read[0], "input_ids") == std::vector<int64_t>{2, 7, 3, 2, 5, 3, 2, 6, 3});
    CHECK(ints(read[0], "labels") == std::vector<int64_t>{1, 0, 1});
    CHECK_SAYS(failure({{"files", folder.path.string() + "/*.tsv"}, {"columns", kText}}, context()), "*.tsv: matches no file");
    CHECK_SAYS(failure({{"files", folder.path.string() + "/d.csv"}, {"columns", kText}}, context()), "d.csv: cannot open: No such file");
    CHECK_SAYS(failure({{"files", folder.path.string() + "/d"}, {"columns", kText}}, context()),
               "data: format: missing, and the ending of");
}

TEST_CASE("options/unknown_keys_types_and_choices_are_told") {
    const auto says = [](const Json& options) { return failure(options, context("causal")); };
    CHECK(says({{"colums", {}}}) == "data: colums: unknown key; did you mean columns?");
    CHECK(says({{"files", "a.csv"}, {"columns", {{"txt", 1}}}}) == "data: columns: txt: unknown key; did you mean text?");
    CHECK(says({{"files", "a.csv"}, {"columns", {{"label", {{"column", 1}, {"greater", 0}}}}}}) ==
          "data: columns: label: greater: unknown key; did you mean greater_than?");
    CHECK(says({{"columns", {{"text", 0}}}}) == "data: files: missing; a path, a list of paths or a pattern is needed");
    CHECK(says({{"files", 3}}) == "data: files: found 3, a path or a list of paths is accepted");
    CHECK(says({{"files", "a.csv"}, {"prefetch", "x"}}) == "data: prefetch: found \"x\", an integer from 0 to 2^40 is accepted");
    CHECK(says({{"files", "a.csv"}, {"utf8", "x"}}) == "data: utf8: found \"x\", accepted are \"error\", \"replace\"");
    CHECK(says({{"files", "a.csv"}, {"columns", {{"text", 0}}}, {"whole_words", true}}) ==
          "data: whole_words: has no effect with task \"causal\"; it belongs to task mlm");
    CHECK(says({{"files", "a.txt"}, {"quoting", false}}) ==
          "data: quoting: has no effect with format \"text\"; it belongs to format csv tsv");
    CHECK(says({{"files", "a.csv"}, {"columns", {{"text", 0}, {"label", 1}}}}) ==
          "data: columns: label: task causal has no use for it; its columns are prompt, instruction, input, text, input_ids, response, "
          "messages");
    CHECK(says({{"files", "a.csv"}, {"columns", {{"text", {{"column", 0}, {"greater_than", 1}}}}}}) ==
          "data: columns: text: greater_than has no effect on this column");
    CHECK(says({{"files", "a.csv"}, {"columns", {{"text", 0}}}, {"task", "causl"}})
              .starts_with("data: task: found \"causl\"; did you mean \"causal\"?"));
    CHECK(says({{"files", "a.csv"}}) == "data: columns: missing; format \"csv\" needs to know which column is the text");
    CHECK(says({{"files", "a.csv"}, {"split", {{"every", 10}}}}) == "data: split: take is missing; both every and take are needed");
    CHECK(says({{"files", "a.csv"}, {"shard", {{"rank", 2}, {"count", 2}}}}) ==
          "data: shard: rank 2 of count 2: a rank from 0 to count - 1 is accepted");
    CHECK(says({{"files", "a.txt"}}) ==
          "data: block_length: missing; plain text is cut into rows of this many tokens (max_length serves too)");
    CHECK(says({{"files", "a.csv"}, {"group_batches", 3}}) == "data: group_batches: has no effect without \"group_by_length\": true");
    CHECK(says({{"files", "a.csv"}, {"workers", 0}, {"prefetch", 3}}) == "data: prefetch: has no effect with \"workers\": 0");
    CHECK(describe_data_options().size() > 50);
}

TEST_CASE("labels/rules_give_classes") {
    Folder folder;
    const std::string path = folder.write("a.csv", "t,l,r\na,pos,0.5\nb,neg,-1e-3\nc, pos ,0\nd,neg,7\n");
    const auto labels = [&](const Json& rule) {
        return ints(batches({{"files", path}, {"columns", {{"text", "t"}, {"label", rule}}}, {"batch_size", 4}},
                            context("sequence_classification", 2))[0],
                    "labels");
    };
    using L = std::vector<int64_t>;
    CHECK(labels({{"column", "r"}, {"greater_than", 0}}) == L{1, 0, 0, 1});
    CHECK(labels({{"column", "l"}, {"names", {"pos", "neg"}}}) == L{0, 1, 0, 1});
    CHECK(labels({{"column", "l"}, {"map", {{"pos", 1}, {"neg", 0}}}}) == L{1, 0, 1, 0});
    const Json wrong = {{"files", path}, {"columns", {{"text", "t"}, {"label", {{"column", "l"}, {"names", {"pos", "bad"}}}}}}};
    CHECK_SAYS(failure(wrong, context("", 2)), "line 3 (byte 16): column label: found the text \"neg\", accepted: \"pos\", \"bad\"");
    const Json many = {{"files", path}, {"columns", {{"text", "t"}, {"label", {{"column", "r"}, {"auto", true}}}}}};
    CHECK_SAYS(failure(many, context("", 2)),
               "data: columns: label: 4 different values (\"-1e-3\", \"0\", \"0.5\", \"7\"), the model has num_labels 2");
    const Json both = {{"files", path}, {"columns", {{"text", "t"}, {"label", {{"column", "r"}, {"auto", true}, {"greater_than", 1}}}}}};
    CHECK_SAYS(failure(both, context("", 2)), "greater_than, names, map and auto exclude each other");
}

TEST_CASE("labels/texts_are_looked_up_in_the_models_own_names") {
    Folder folder;
    DataContext model = context("sequence_classification", 3);
    model.label_names = {"positive", "negative", "2"};
    const auto columns = [](const Json& rule) { return Json{{"text", "t"}, {"label", rule}}; };
    const Json automatic = {{"column", "l"}, {"auto", true}};
    using L = std::vector<int64_t>;
    const auto labels = [&](std::string_view rows, const Json& rule) {
        const std::string path = folder.write("a.csv", "t,l\n" + std::string(rows));
        return ints(batches({{"files", path}, {"columns", columns(rule)}, {"batch_size", 4}}, model)[0], "labels");
    };
    CHECK(labels("a,positive\nb, negative \nc,positive\n", "l") == L{0, 1, 0});
    CHECK(labels("a,2\nb,0\nc,negative\n", "l") == L{2, 0, 1});  // an integer is a class
    CHECK(labels("a,positive\nb,negative\n", automatic) == L{0, 1});
    CHECK(labels("a,good\nb,bad\n", automatic) == L{1, 0});  // other names than the model's are learned
    CHECK(labels("a,positive\nb,negative\n", {{"column", "l"}, {"names", {"negative", "positive"}}}) == L{1, 0});

    const std::string path = folder.write("a.csv", "t,l\na,positive\nb,Positive\n");
    CHECK(failure({{"files", path}, {"columns", columns("l")}}, model) ==
          path +
              ": line 3 (byte 15): column label: found the text \"Positive\", an integer from 0 to 2 or one of \"positive\", \"negative\", "
              "\"2\" is accepted, or give the "
              "names of the classes (\"names\", \"map\" or \"auto\")");
    CHECK(failure({{"files", path}, {"columns", columns(automatic)}}, model) ==
          path + ": line 3 (byte 15): column label: found the text \"Positive\", accepted: \"positive\", \"negative\", \"2\"");

    const std::string lists = folder.write("a.jsonl", "{\"t\": \"a\", \"c\": [\"negative\", \"2\"]}\n");
    CHECK(ints(batches({{"files", lists}, {"columns", {{"text", "t"}, {"labels", "c"}}}}, model)[0], "labels") == L{0, 1, 1});
    model = context("token_classification", 3);
    model.label_names = {"O", "B-P", "I-P"};
    const std::string words = folder.write("b.jsonl", "{\"w\": [\"paris\", \"xy\"], \"t\": [\"O\", \"B-P\"]}\n");
    CHECK(ints(batches({{"files", words}, {"columns", {{"words", "w"}, {"tags", "t"}}}, {"align", "all"}}, model)[0], "labels") ==
          L{-100, 0, 1, 2, -100});
}

TEST_CASE("labels/auto_classes_are_sorted_and_agree_between_splits") {
    Folder folder;
    const std::string path = folder.write("a.csv", "t,l\na,10\nb,9\nc,10\nd,9\ne,-1\n");
    const Json options = {{"files", path},
                          {"columns", {{"text", "t"}, {"label", {{"column", "l"}, {"auto", true}}}}},
                          {"shuffle", false},
                          {"split", {{"every", 5}, {"take", "train"}}}};
    auto opened = open_data(options, context());
    REQUIRE(opened.ok());
    CHECK((*opened)->label_names() == std::vector<std::string>{"-1", "9", "10"});
    Batch batch;
    CHECK((*opened)->next(batch).ok());
    CHECK(ints(batch, "labels") == std::vector<int64_t>{2, 1});
}

TEST_CASE("labels/one_label_is_a_number_and_lists_are_several_classes") {
    Folder folder;
    const std::string path =
        folder.write("a.jsonl", "{\"t\": \"a\", \"v\": 0.25, \"c\": [\"x\", \"z\"]}\n{\"t\": \"b\", \"v\": -2, \"c\": []}\n");
    const auto value = batches({{"files", path}, {"columns", {{"text", "t"}, {"label", "v"}}}}, context("sequence_classification", 1));
    CHECK(value[0].at("labels").dtype == DType::f32);
    CHECK(value[0].at("labels").as<float>()[0] == 0.25f);
    CHECK(value[0].at("labels").as<float>()[1] == -2.0f);
    const auto several = batches({{"files", path}, {"columns", {{"text", "t"}, {"labels", {{"column", "c"}, {"names", {"x", "y", "z"}}}}}}},
                                 context("sequence_classification", 3));
    CHECK(several[0].at("labels").shape == Shape{2, 3});
    CHECK(ints(several[0], "labels") == std::vector<int64_t>{1, 0, 1, 0, 0, 0});
}

TEST_CASE("classification/pairs_have_token_types_and_rows_are_padded") {
    Folder folder;
    const std::string path = folder.write("a.csv", "t,p\ngood film,bad\nthe,a b c\n");
    const auto out = batches({{"files", path}, {"columns", {{"text", "t"}, {"pair", "p"}}}, {"pad_to_multiple_of", 4}},
                             context("sequence_classification", 2));
    REQUIRE(out.size() == 1);
    CHECK(out[0].at("input_ids").shape == Shape{2, 8});
    CHECK(ints(out[0], "input_ids") == std::vector<int64_t>{2, 57, 59, 3, 58, 3, 0, 0, 2, 60, 3, 5, 6, 7, 3, 0});
    CHECK(ints(out[0], "token_type_ids") == std::vector<int64_t>{0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0});
    CHECK(ints(out[0], "attention_mask") == std::vector<int64_t>{1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0});
    CHECK(!out[0].contains("labels"));
    const auto cut = batches(
        {{"files", path}, {"columns", {{"text", "t"}}}, {"max_length", 6}, {"padding", "max_length"}, {"dtype", "i32"}}, context("inputs"));
    CHECK(cut[0].at("input_ids").shape == Shape{2, 6});
    CHECK(cut[0].at("input_ids").dtype == DType::i32);
}

TEST_CASE("entities/tags_go_to_first_or_all_tokens_of_their_word") {
    Folder folder;
    const std::string path = folder.write(
        "a.jsonl", "{\"w\": [\"paris\", \"xy\", \"good\"], \"t\": [\"O\", \"B-P\", \"I-P\"]}\n{\"w\": [\"ab\"], \"t\": [\"B-P\"]}\n");
    const Json columns = {{"words", "w"}, {"tags", {{"column", "t"}, {"names", {"O", "B-P", "I-P"}}}}};
    const auto first = batches({{"files", path}, {"columns", columns}}, context("token_classification", 3));
    CHECK(ints(first[0], "input_ids") == std::vector<int64_t>{2, 64, 28, 55, 57, 3, 2, 5, 32, 3, 0, 0});
    CHECK(ints(first[0], "labels") == std::vector<int64_t>{-100, 0, 1, -100, 2, -100, -100, 1, -100, -100, -100, -100});
    const auto all = batches({{"files", path}, {"columns", columns}, {"align", "all"}}, context("token_classification", 3));
    CHECK(ints(all[0], "labels") == std::vector<int64_t>{-100, 0, 1, 2, 2, -100, -100, 1, 2, -100, -100, -100});
    const std::string csv = folder.write("a.csv", "w,t\npa ris,0 1\n");
    const auto split = batches({{"files", csv}, {"columns", {{"words", "w"}, {"tags", "t"}}}}, context("token_classification", 3));
    CHECK(ints(split[0], "labels") == std::vector<int64_t>{-100, 0, -100, 1, -100, -100, -100});
    const std::string uneven = folder.write("b.csv", "w,t\npa ris,0\n");
    CHECK_SAYS(failure({{"files", uneven}, {"columns", {{"words", "w"}, {"tags", "t"}}}}, context("", 3)),
               "line 2 (byte 4): column tags: found 1 tags, 2 are accepted, as there are words");
}

TEST_CASE("answers/characters_become_first_and_last_token") {
    Folder folder;
    const std::string rows =
        "{\"q\": \"who?\", \"c\": \"\\u00e9 the film xyz good.\", \"a\": {\"text\": [\"film xyz\"], \"s\": [6]}}\n"
        "{\"q\": \"who?\", \"c\": \"bad\", \"a\": {\"text\": [], \"s\": []}}\n";
    const Json columns = {{"question", "q"}, {"context", "c"}, {"answer", "a.text"}, {"answer_start", "a.s"}};
    const std::string path = folder.write("a.jsonl", rows);
    const auto out = batches({{"files", path}, {"columns", columns}}, context("question_answering"));
    // [CLS] who ? [SEP] e the film x ##y ##z good . [SEP]
    CHECK(ints(out[0], "start_positions") == std::vector<int64_t>{6, 0});
    CHECK(ints(out[0], "end_positions") == std::vector<int64_t>{9, 0});
    CHECK(ints(out[0], "token_type_ids")[4] == 1);
    // Windows of 3 context tokens that share 1: "e the film", "film x ##y", "##y ##z good", "good ."
    const auto windows = batches({{"files", path}, {"columns", columns}, {"max_length", 8}, {"stride", 1}, {"batch_size", 9}, {"limit", 1}},
                                 context("question_answering"));
    CHECK(windows[0].at("input_ids").shape == Shape{4, 8});
    CHECK(ints(windows[0], "start_positions") == std::vector<int64_t>{0, 0, 0, 0});
    const auto wide = batches({{"files", path}, {"columns", columns}, {"max_length", 10}, {"stride", 3}, {"batch_size", 9}, {"limit", 1}},
                              context("question_answering"));
    CHECK(ints(wide[0], "start_positions") == std::vector<int64_t>{0, 4 + 2 - 2, 0});
    CHECK(ints(wide[0], "end_positions") == std::vector<int64_t>{0, 7, 0});
    const auto says = [&](const char* answer, int start) {
        const std::string bad =
            folder.write("b.jsonl", Json({{"q", "who"}, {"c", "\xc3\xa9 the"}, {"a", answer}, {"s", start}}).dump() + "\n");
        return failure({{"files", bad}, {"columns", {{"question", "q"}, {"context", "c"}, {"answer", "a"}, {"answer_start", "s"}}}},
                       context("question_answering"));
    };
    CHECK_SAYS(says("the", 3), "line 1 (byte 0): column answer_start: the answer's 3 code points from 3 on end past the context's 5");
    CHECK_SAYS(says("the", 1), "column answer_start: the context has \" th\" at code point 1, the answer is \"the\"");
    CHECK_SAYS(says("the", -4), "column answer_start: found the number -4, a count of code points from 0 is accepted");
    CHECK(says("the", 2) == "");
}

TEST_CASE("seq2seq/targets_are_labels_of_their_own_length") {
    Folder folder;
    const std::string path = folder.write("a.tsv", "s\tt\ngood film\tbad\nthe\ta b c\n");
    const Json columns = {{"source", "s"}, {"target", "t"}};
    const auto out = batches({{"files", path}, {"columns", columns}}, context("seq2seq"));
    CHECK(ints(out[0], "input_ids") == std::vector<int64_t>{2, 57, 59, 3, 2, 60, 3, 0});
    CHECK(ints(out[0], "attention_mask") == std::vector<int64_t>{1, 1, 1, 1, 1, 1, 1, 0});
    CHECK(out[0].at("labels").shape == Shape{2, 5});
    CHECK(ints(out[0], "labels") == std::vector<int64_t>{2, 58, 3, -100, -100, 2, 5, 6, 7, 3});
    CHECK(!out[0].contains("decoder_input_ids"));
    const auto cut =
        batches({{"files", path}, {"columns", columns}, {"source_prefix", "who "}, {"max_length", 4}, {"max_target_length", 3}},
                context("seq2seq"));
    CHECK(ints(cut[0], "input_ids") == std::vector<int64_t>{2, 65, 57, 3, 2, 65, 60, 3});
    CHECK(ints(cut[0], "labels") == std::vector<int64_t>{2, 58, 3, 2, 5, 3});
    const auto wide =
        batches({{"files", path}, {"columns", columns}, {"max_length", 6}, {"max_target_length", 7}, {"padding", "max_length"}},
                context("seq2seq"));
    CHECK(wide[0].at("input_ids").shape == Shape{2, 6});
    CHECK(wide[0].at("labels").shape == Shape{2, 7});
    const auto says = [&](const std::string& rows) {
        return failure({{"files", folder.write("b.tsv", "s\tt\n" + rows)}, {"columns", columns}}, context("seq2seq"));
    };
    CHECK_SAYS(says("good\tbad\n\tbad\n"), "line 3 (byte 13): column source: found an empty text, a text is accepted");
    CHECK_SAYS(says("good\t \n"), "line 2 (byte 4): column target: found an empty text, a text is accepted");
    CHECK_SAYS(says("good\tb\xe4r\n"), "b.tsv: line 2 (byte 10): found byte 0xe4, which is not UTF-8 here");
    CHECK_SAYS(failure({{"files", path}, {"columns", {{"source", "s"}}}}, context("seq2seq")), "task seq2seq needs a column for target");
}

TEST_CASE("causal/only_the_response_is_learned") {
    Folder folder;
    const std::string path = folder.write("a.jsonl", "{\"i\": \"who\", \"x\": \"a\", \"r\": \"good\"}\n");
    const auto out = batches({{"files", path},
                              {"columns", {{"instruction", "i"}, {"input", "x"}, {"response", "r"}}},
                              {"prompt_template", "{instruction} {input} ?"}},
                             context("causal"));
    CHECK(ints(out[0], "input_ids") == std::vector<int64_t>{2, 65, 5, 63, 57, 3});
    CHECK(ints(out[0], "labels") == std::vector<int64_t>{-100, -100, -100, -100, 57, 3});
    CHECK_SAYS(
        failure(
            {{"files", path}, {"columns", {{"instruction", "i"}, {"input", "x"}, {"response", "r"}}}, {"prompt_template", "{instruction}"}},
            context("causal")),
        "data: columns: input: the prompt's template does not use it");
    CHECK_SAYS(failure({{"files", path}, {"columns", {{"response", "r"}}}}, context("causal")), "needs a column for prompt or instruction");
}

TEST_CASE("causal/rows_of_text_learn_every_token_and_pads_are_ignored") {
    Folder folder;
    const std::string path = folder.write("a.csv", "t\na b c\nd\n");
    const auto out = batches({{"files", path}, {"columns", {{"text", "t"}}}}, context("causal"));
    CHECK(ints(out[0], "input_ids") == std::vector<int64_t>{2, 5, 6, 7, 3, 2, 8, 3, 0, 0});
    CHECK(ints(out[0], "labels") == std::vector<int64_t>{2, 5, 6, 7, 3, 2, 8, 3, -100, -100});
    CHECK(!out[0].contains("token_type_ids"));
}

TEST_CASE("causal/plain_text_is_cut_into_blocks_within_documents_or_across") {
    Folder folder;
    const std::string path = folder.write("a.txt", "a b c d\ne\nf g\n");
    const auto rows = [&](bool pack) {
        std::vector<std::vector<int64_t>> out;
        for (const Batch& batch :
             batches({{"files", path}, {"document", "line"}, {"block_length", 4}, {"pack", pack}, {"batch_size", 1}}, context("causal")))
            out.push_back(ints(batch, "input_ids"));
        return out;
    };
    using Ids = std::vector<std::vector<int64_t>>;
    CHECK(rows(false) == Ids{{2, 5, 6, 7}, {8, 3}, {2, 9, 3}, {2, 10, 11, 3}});
    CHECK(rows(true) == Ids{{2, 5, 6, 7}, {8, 3, 2, 9}, {3, 2, 10, 11}});  // the last token alone predicts nothing
}

TEST_CASE("causal/a_document_tokenised_in_pieces_equals_the_whole") {
    std::string lines, paragraphs;
    for (int i = 0; i < 30000; ++i) {
        lines += fmt::format("good film number {}\n", static_cast<char>('a' + i % 26));
        paragraphs += fmt::format("{} good film. \n\n", i);
    }
    REQUIRE(std::min(lines.size(), paragraphs.size()) > (size_t{512} << 10));
    Folder folder;
    std::vector<std::shared_ptr<const Tokenizer>> tokenizers{tokenizer()};
    for (const char* name : {"starcoder", "qwen2", "o200k", "llama2", "roberta", "t5"}) {
        auto loaded = Tokenizer::load(std::filesystem::path(DSRT_TEST_DATA) / "tokenizers" / name);
        REQUIRE_MESSAGE(loaded.ok(), loaded.status().message());
        tokenizers.push_back(*loaded);
    }
    for (const std::string& text : {lines, paragraphs, lines + paragraphs})
        for (const auto& tokenizer : tokenizers) {
            CAPTURE(tokenizer->folder());
            DataContext with = context("causal");
            with.tokenizer = tokenizer;
            std::vector<int64_t> ids;
            for (const Batch& batch : batches(
                     {{"files", folder.write("a.txt", text)}, {"block_length", 1 << 22}, {"append_eos", false}, {"workers", 2}}, with)) {
                const auto more = ints(batch, "input_ids");
                ids.insert(ids.end(), more.begin(), more.end());
            }
            const auto whole = tokenizer->encode(text, std::nullopt, {.add_special_tokens = false});
            REQUIRE(whole.ok());
            CHECK(std::ranges::search(ids, whole->ids).size() == whole->ids.size());
        }
}

TEST_CASE("inputs/given_ids_need_no_tokenizer_and_stay_in_the_vocabulary") {
    Folder folder;
    const std::string path = folder.write("a.jsonl", "{\"ids\": [5, 6, 7]}\n{\"ids\": [8]}\n");
    DataContext with;
    with.rows_per_batch = 2;
    with.vocabulary_size = 9;
    const auto out = batches({{"files", path}, {"columns", {{"input_ids", "ids"}}}, {"task", "causal"}}, with);
    CHECK(ints(out[0], "input_ids") == std::vector<int64_t>{5, 6, 7, 8, 0, 0});
    DataContext small = context("inputs");
    small.vocabulary_size = 60;
    const std::string csv = folder.write("a.csv", "t\nthe\n");
    CHECK_SAYS(failure({{"files", csv}, {"columns", {{"text", "t"}}}}, small),
               "line 2 (byte 2): token id 60 (\"the\") is outside the model's vocabulary of 60; another tokenizer is needed");
    with.vocabulary_size = 8;
    CHECK_SAYS(failure({{"files", path}, {"columns", {{"input_ids", "ids"}}}}, with),
               "line 2 (byte 19): column input_ids: found 8, integers from 0 to 7 are accepted");
    CHECK(failure({{"files", path}, {"columns", {{"text", "ids"}}}}, with) == "data: tokenizer: missing; texts need one (a path)");
}

TEST_CASE("files/damaged_bytes_are_an_error_or_other_rows_but_never_a_fault") {
    const std::pair<const char*, std::string> files[] = {
        {"a.csv", "text,label\n\"a, \"\"b\"\"\nc\",1\r\nd,0\n\"\",1\n"},
        {"a.jsonl", "{\"text\": \"a\\u20acb\", \"label\": 1}\n{\"text\": \"\\ud83d\\ude00\", \"label\": 0, \"x\": [1, {\"y\": null}]}\n"},
        {"a.json", "[{\"text\": \"a]\", \"label\": 1}, {\"text\": \"b\\\"\", \"label\": 0, \"x\": [[1.5e3], {}]}]"},
    };
    using namespace std::string_literals;
    const std::string bytes = "\0\n\r\"\\,[]{}:u0e-\xff\xc3\xf0 "s;
    for (const auto& [name, good] : files) {
        for (uint64_t i = 0; i < 400; ++i) {
            const CounterRandom random = CounterRandom(5).at(i);
            std::string bad = good;
            for (uint64_t k = 0; k <= i % 3; ++k) bad[random.below(bad.size(), 2 * k)] = bytes[random.below(bytes.size(), 2 * k + 1)];
            if (i % 4 == 0) bad.resize(random.below(bad.size(), 99));
            Folder folder;
            const Json options = {
                {"files", folder.write(name, bad)}, {"columns", kText}, {"utf8", i % 2 ? "error" : "replace"}, {"workers", 0}};
            const std::string said = failure(options, context("sequence_classification", 2));
            if (!said.empty()) CHECK_SAYS(said, name);
        }
    }
}
