#include "lr/clip.h"

#include <cmath>

namespace ds {

double clip_factor(double norm, double max_norm) {
    if (max_norm <= 0 || !std::isfinite(norm)) return 1;
    const double factor = max_norm / (norm + 1e-6);
    return factor < 1 ? factor : 1;
}

void clip_values(std::span<float> gradients, float limit) {
    if (limit <= 0) return;
    for (float& g : gradients) g = clip_value(g, limit);
}

}  // namespace ds
