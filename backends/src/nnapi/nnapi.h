/* Facts of the NNAPI ABI that the bridge uses: numbers, structs, functions. Operations have their numbers
 * in npu/table.rs. tests/suites/nnapi.rs makes sys.rs of this. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Element types. */
enum {
    TYPE_BOOL = 6,
    TYPE_INT32 = 1,
    TYPE_FLOAT32 = 0,
    TYPE_FLOAT16 = 10,
    TYPE_TENSOR_FLOAT32 = 3,
    TYPE_TENSOR_INT32 = 4,
    TYPE_TENSOR_FLOAT16 = 8,
    TYPE_TENSOR_BOOL8 = 9,
    TYPE_TENSOR_QUANT8_SYMM_PER_CHANNEL = 11,
    TYPE_TENSOR_QUANT8_ASYMM_SIGNED = 14
};

/* What functions return. */
enum {
    RESULT_NO_ERROR = 0,
    RESULT_OUT_OF_MEMORY = 1,
    RESULT_INCOMPLETE = 2,
    RESULT_UNEXPECTED_NULL = 3,
    RESULT_BAD_DATA = 4,
    RESULT_OP_FAILED = 5,
    RESULT_BAD_STATE = 6,
    RESULT_UNMAPPABLE = 7,
    RESULT_OUTPUT_INSUFFICIENT_SIZE = 8,
    RESULT_UNAVAILABLE_DEVICE = 9,
    RESULT_DEAD_OBJECT = 14
};

/* Preferences and kinds of devices. */
enum { PREFER_SUSTAINED_SPEED = 2 };
enum { DEVICE_UNKNOWN = 0, DEVICE_OTHER = 1, DEVICE_CPU = 2, DEVICE_GPU = 3, DEVICE_ACCELERATOR = 4 };

typedef struct ANeuralNetworksModel ANeuralNetworksModel;
typedef struct ANeuralNetworksCompilation ANeuralNetworksCompilation;
typedef struct ANeuralNetworksExecution ANeuralNetworksExecution;
typedef struct ANeuralNetworksEvent ANeuralNetworksEvent;
typedef struct ANeuralNetworksBurst ANeuralNetworksBurst;
typedef struct ANeuralNetworksDevice ANeuralNetworksDevice;

typedef struct ANeuralNetworksOperandType {
    int32_t type;
    uint32_t dimensionCount;
    const uint32_t *dimensions;
    float scale;
    int32_t zeroPoint;
} ANeuralNetworksOperandType;

typedef struct ANeuralNetworksSymmPerChannelQuantParams {
    uint32_t channelDim;
    uint32_t scaleCount;
    const float *scales;
} ANeuralNetworksSymmPerChannelQuantParams;

/* Level 1. */
int ANeuralNetworksModel_create(ANeuralNetworksModel **model);
void ANeuralNetworksModel_free(ANeuralNetworksModel *model);
int ANeuralNetworksModel_finish(ANeuralNetworksModel *model);
int ANeuralNetworksModel_addOperand(ANeuralNetworksModel *model, const ANeuralNetworksOperandType *type);
int ANeuralNetworksModel_setOperandValue(ANeuralNetworksModel *model, int32_t index, const void *buffer, size_t length);
int ANeuralNetworksModel_addOperation(ANeuralNetworksModel *model, int32_t type, uint32_t inputCount, const uint32_t *inputs, uint32_t outputCount, const uint32_t *outputs);
int ANeuralNetworksModel_identifyInputsAndOutputs(ANeuralNetworksModel *model, uint32_t inputCount, const uint32_t *inputs, uint32_t outputCount, const uint32_t *outputs);
int ANeuralNetworksCompilation_create(ANeuralNetworksModel *model, ANeuralNetworksCompilation **compilation);
void ANeuralNetworksCompilation_free(ANeuralNetworksCompilation *compilation);
int ANeuralNetworksCompilation_setPreference(ANeuralNetworksCompilation *compilation, int32_t preference);
int ANeuralNetworksCompilation_finish(ANeuralNetworksCompilation *compilation);
int ANeuralNetworksExecution_create(ANeuralNetworksCompilation *compilation, ANeuralNetworksExecution **execution);
void ANeuralNetworksExecution_free(ANeuralNetworksExecution *execution);
int ANeuralNetworksExecution_setInput(ANeuralNetworksExecution *execution, int32_t index, const ANeuralNetworksOperandType *type, const void *buffer, size_t length);
int ANeuralNetworksExecution_setOutput(ANeuralNetworksExecution *execution, int32_t index, const ANeuralNetworksOperandType *type, void *buffer, size_t length);
int ANeuralNetworksExecution_startCompute(ANeuralNetworksExecution *execution, ANeuralNetworksEvent **event);
int ANeuralNetworksEvent_wait(ANeuralNetworksEvent *event);
void ANeuralNetworksEvent_free(ANeuralNetworksEvent *event);

/* Level 3. */
int ANeuralNetworks_getDeviceCount(uint32_t *count);
int ANeuralNetworks_getDevice(uint32_t index, ANeuralNetworksDevice **device);
int ANeuralNetworksDevice_getName(const ANeuralNetworksDevice *device, const char **name);
int ANeuralNetworksDevice_getType(const ANeuralNetworksDevice *device, int32_t *type);
int ANeuralNetworksDevice_getVersion(const ANeuralNetworksDevice *device, const char **version);
int ANeuralNetworksDevice_getFeatureLevel(const ANeuralNetworksDevice *device, int64_t *level);
int ANeuralNetworksModel_setOperandSymmPerChannelQuantParams(ANeuralNetworksModel *model, int32_t index, const ANeuralNetworksSymmPerChannelQuantParams *params);
int ANeuralNetworksModel_getSupportedOperationsForDevices(const ANeuralNetworksModel *model, const ANeuralNetworksDevice *const *devices, uint32_t count, bool *supported);
int ANeuralNetworksCompilation_createForDevices(ANeuralNetworksModel *model, const ANeuralNetworksDevice *const *devices, uint32_t count, ANeuralNetworksCompilation **compilation);
int ANeuralNetworksCompilation_setCaching(ANeuralNetworksCompilation *compilation, const char *folder, const uint8_t *token);
int ANeuralNetworksExecution_compute(ANeuralNetworksExecution *execution);
int ANeuralNetworksBurst_create(ANeuralNetworksCompilation *compilation, ANeuralNetworksBurst **burst);
void ANeuralNetworksBurst_free(ANeuralNetworksBurst *burst);
int ANeuralNetworksExecution_burstCompute(ANeuralNetworksExecution *execution, ANeuralNetworksBurst *burst);

/* Level 5. */
int64_t ANeuralNetworks_getRuntimeFeatureLevel(void);
int ANeuralNetworksExecution_setReusable(ANeuralNetworksExecution *execution, bool reusable);
