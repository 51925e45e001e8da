package io.dsrt;

/** The type of a tensor's elements, in the order of the C codes. */
public enum DType {
    FLOAT32, FLOAT16, BFLOAT16, FLOAT64, INT32, INT64, UINT8, BOOL, INT8, FLOAT8_E4M3, FLOAT8_E5M2
}
