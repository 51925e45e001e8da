// Random numbers by counter: a pure function of a key and positions, so that any batch can be made again from its number alone.
//
//     mix(x): the finaliser of SplitMix64 (Steele, Lea, Flood 2014), a bijection of 64 bits that passes BigCrush on counters.
#pragma once

#include <cstdint>

namespace ds {

class CounterRandom {
public:
    explicit CounterRandom(uint64_t seed) : key_(mix(seed + kStep)) {}
    // A generator of its own for a sub-topic: at(a).at(b) and at(b).at(a) differ.
    CounterRandom at(uint64_t position) const { return CounterRandom(key_ ^ mix(position + kStep)); }
    uint64_t bits(uint64_t position) const { return mix(key_ + kStep * (position + 1)); }
    double unit(uint64_t position) const { return static_cast<double>(bits(position) >> 11) * 0x1p-53; }  // [0, 1)
    // [0, n); the bias is below n / 2^64.
    uint64_t below(uint64_t n, uint64_t position) const {
        return static_cast<uint64_t>((static_cast<unsigned __int128>(bits(position)) * n) >> 64);
    }

private:
    static constexpr uint64_t kStep = 0x9e3779b97f4a7c15ull;
    static constexpr uint64_t mix(uint64_t x) {
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
        return x ^ (x >> 31);
    }
    uint64_t key_;
};

}  // namespace ds
