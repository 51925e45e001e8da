#include <dsrt/dsrt.hpp>
#include <iostream>

int main() {
    dsrt::Batch batch;
    batch.set("x", {2}, std::vector<float>{1, 2});
    if (batch["x"].read<double>() != std::vector<double>{1, 2}) return 1;
    try {
        batch["y"];
        return 2;
    } catch (const dsrt::Error& e) {
        if (e.code() != DS_E_NOT_FOUND) return 3;
    }
    dsrt::Tensor half(dsrt::DType::f16, {2});
    double two[2] = {7, 7};
    half.read_into(dsrt::DType::f64, two, sizeof two);
    dsrt::Tensor lent = dsrt::Tensor::from_dlpack_legacy(half.to_dlpack_legacy());
    half.close();
    half.close();
    if (two[1] != 0 || lent.read() != std::vector<float>{0, 0}) return 7;
    try {
        half.shape();
        return 8;
    } catch (const dsrt::Error& e) {
        if (e.code() != DS_E_STATE) return 9;
    }
    struct Mine {};
    dsrt::Data data(dsrt::DataFunctions{[](dsrt::Batch&) -> bool { throw Mine(); }, {}, {}});
    try {
        data.next(batch);
        return 4;
    } catch (const Mine&) {  // through the C ABI and out again
    }
    try {
        dsrt::Engine engine("{\"train_batch_sise\": 8}");
        return 5;
    } catch (const dsrt::Error& e) {
        if (!*e.what()) return 6;
    }
    dsrt::Graph graph;  // an op of its own, with its gradient: y = x * x
    dsrt::OpFunctions square;
    square.forward = [](const std::string&, const dsrt::OpValues& in, const dsrt::OpValues& out) {
        for (int64_t i = 0; i < in[0].shape[0]; ++i) {
            const float x = static_cast<const float*>(in[0].data)[i];
            static_cast<float*>(out[0].data)[i] = x * x;
        }
    };
    square.backward = [](const std::string&, const dsrt::OpValues& in, const dsrt::OpValues&, const dsrt::OpValues& dy, const dsrt::OpValues& dx) {
        for (int64_t i = 0; i < in[0].shape[0]; ++i)
            static_cast<float*>(dx[0].data)[i] = 2 * static_cast<const float*>(in[0].data)[i] * static_cast<const float*>(dy[0].data)[i];
    };
    graph.define_op("square", square);
    graph.define_op("throws", {[](const std::string&, const dsrt::OpValues&, const dsrt::OpValues&) { throw Mine(); }, {}, {}, 1});
    graph.read("graph m(%x: f32[2], param %w: f32[2] ones) {\n  %h = mul %x, %w\n  %y = square %h\n  %loss = sum %y\n  %z = throws %h\n"
               "  output z = %z\n  loss = %loss\n}\n");
    dsrt::Options options;
    options.graph(graph);
    dsrt::Engine engine("{\"train_batch_size\": 1, \"threads\": 1, \"optimizer\": \"SGD\"}", &options);
    if (engine.forward(batch) != 5) return 10;
    try {
        engine.output("z");
        return 11;
    } catch (const Mine&) {
    }
    engine.forward(batch);
    engine.backward();
    if (engine.param("w", dsrt::What::grad).read() != std::vector<float>{2, 8}) return 12;
    std::cout << "dsrt " << dsrt::version() << "\n";
}
