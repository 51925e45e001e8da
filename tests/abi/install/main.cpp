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
        if (e.code() != DS_E_INVALID_ARGUMENT) return 9;
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
    std::cout << "dsrt " << dsrt::version() << "\n";
}
