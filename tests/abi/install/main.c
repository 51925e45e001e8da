#include <dsrt/dsrt.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    const float values[2] = {1, 2};
    const int64_t two = 2;
    float back[2] = {0, 0};
    ds_tensor *t = NULL;
    ds_engine *e = NULL;
    if (ds_tensor_create(DS_F32, 1, &two, values, sizeof(values), &t) != DS_OK || ds_tensor_read(t, DS_F32, back, sizeof(back)) != DS_OK) {
        fprintf(stderr, "%s\n", ds_last_error());
        return 1;
    }
    ds_tensor_destroy(t);
    if (ds_engine_create("{\"train_batch_sise\": 8}", NULL, &e) >= 0 || e) return 2;
    return memcmp(back, values, sizeof(values)) != 0 || (ds_abi_version() >> 16) != DS_ABI_VERSION >> 16;
}
