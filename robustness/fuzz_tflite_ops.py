"""A valid use of every operation of the TFLite schema, as text: what `fuzz_tflite_models.py` builds files from.

One line an operation: its name, the tensors it reads, `>`, the tensors it writes, `;`, its options. A tensor is a
letter for its type (see `LETTERS`; a capital letter makes it a constant, `$` a float32 variable), its shape, and `=`
with the values of a constant; `-` is an input that is left out. Options are fields of the schema's options; what is not named is 0.
"""
# ruff: noqa: E501 (a line an operation)

from __future__ import annotations

from dataclasses import dataclass

# Letter: TensorType of the schema, numpy type of its values (None: not written as numbers).
LETTERS = {
    "f": (0, "<f4"), "e": (1, "<f2"), "d": (10, "<f8"), "i": (2, "<i4"), "l": (4, "<i8"), "b": (6, "?"),
    "q": (9, "i1"), "u": (3, "u1"), "h": (7, "<i2"), "w": (15, "<u4"), "n": (16, "<u2"), "c": (8, "<c8"),
    "s": (5, None), "r": (13, None), "v": (14, None), "p": (17, "u1"), "z": (12, "<u8"),
}  # fmt: skip

_LINES = """
ADD f1x4x4x3 f1x4x4x3 > f1x4x4x3
SUB f1x4x4x3 F3 > f1x4x4x3
MUL f1x4x4x3 F1x4x1x3 > f1x4x4x3
DIV f1x4x4x3 F1 > f1x4x4x3
POW f1x4x4x3 F3 > f1x4x4x3
MAXIMUM f1x4x4x3 F3 > f1x4x4x3
MINIMUM f1x4x4x3 F3 > f1x4x4x3
FLOOR_DIV f1x4x4x3 F3 > f1x4x4x3
FLOOR_MOD f1x4x4x3 F3 > f1x4x4x3
FLOOR_DIV i1x4x3 I3=3,2,1 > i1x4x3
FLOOR_MOD i1x4x3 I3=3,2,1 > i1x4x3
DIV i1x4x3 I3=3,2,1 > i1x4x3
SQUARED_DIFFERENCE f1x4x4x3 F3 > f1x4x4x3
ATAN2 f1x4x4x3 f1x4x4x3 > f1x4x4x3
LESS f1x4x4x3 F3 > b1x4x4x3
GREATER f1x4x4x3 F3 > b1x4x4x3
GREATER_EQUAL f1x4x4x3 F3 > b1x4x4x3
LESS_EQUAL f1x4x4x3 F3 > b1x4x4x3
EQUAL f1x4x4x3 F3 > b1x4x4x3
NOT_EQUAL f1x4x4x3 F3 > b1x4x4x3
EQUAL s4 S4 > b4
LOGICAL_OR b4x3 B3 > b4x3
LOGICAL_AND b4x3 B3 > b4x3
LOGICAL_NOT b4x3 > b4x3
BITWISE_XOR i4x3 I3=1,2,3 > i4x3
RIGHT_SHIFT i4x3 I3=1,2,3 > i4x3
AVERAGE_POOL_2D f1x4x4x3 > f1x2x2x3 ; strideW=2 strideH=2 filterWidth=2 filterHeight=2
MAX_POOL_2D f1x4x4x3 > f1x2x2x3 ; strideW=2 strideH=2 filterWidth=2 filterHeight=2
L2_POOL_2D f1x4x4x3 > f1x2x2x3 ; strideW=2 strideH=2 filterWidth=2 filterHeight=2
CONV_2D f1x4x4x3 F2x3x3x3 F2 > f1x4x4x2 ; strideW=1 strideH=1
CONV_2D f1x4x4x4 F2x3x3x2 F2 > f1x4x4x2 ; strideW=1 strideH=1
CONV_2D f1x4x4x3 Q2x3x3x3 F2 > f1x4x4x2 ; strideW=1 strideH=1
DEPTHWISE_CONV_2D f1x4x4x3 F1x3x3x6 F6 > f1x4x4x6 ; strideW=1 strideH=1 depthMultiplier=2
TRANSPOSE_CONV I4=1,4,4,2 F2x3x3x3 f1x4x4x3 F2 > f1x4x4x2 ; strideW=1 strideH=1
CONV_3D f1x2x4x4x3 F2x2x2x3x2 F2 > f1x2x4x4x2 ; strideD=1 strideW=1 strideH=1
CONV_3D_TRANSPOSE I5=1,2,4,4,2 F2x2x2x2x3 f1x2x4x4x3 F2 > f1x2x4x4x2 ; strideD=1 strideW=1 strideH=1
FULLY_CONNECTED f1x48 F5x48 F5 > f1x5
FULLY_CONNECTED f1x48 Q5x48 - > f1x5
FULLY_CONNECTED f1x48 P5x48 F5 > f1x5
FULLY_CONNECTED f1x4x48 F5x48 - > f1x4x5 ; keepNumDims=1
BATCH_MATMUL f1x4x3 f1x3x5 > f1x4x5
BATCH_MATMUL f1x4x3 F1x5x3 > f1x4x5 ; adjY=1
BATCH_MATMUL f1x4x3 Q1x3x5 > f1x4x5
SOFTMAX f1x48 > f1x48 ; beta=1
LOG_SOFTMAX f1x48 > f1x48
LOGISTIC f1x4x4x3 > f1x4x4x3
TANH f1x4x4x3 > f1x4x4x3
RELU f1x4x4x3 > f1x4x4x3
RELU6 f1x4x4x3 > f1x4x4x3
RELU_N1_TO_1 f1x4x4x3 > f1x4x4x3
RELU_0_TO_1 f1x4x4x3 > f1x4x4x3
LEAKY_RELU f1x4x4x3 > f1x4x4x3 ; alpha=0.1
PRELU f1x4x4x3 F1x1x3 > f1x4x4x3
ELU f1x4x4x3 > f1x4x4x3
GELU f1x4x4x3 > f1x4x4x3
HARD_SWISH f1x4x4x3 > f1x4x4x3
FLOOR f1x4x4x3 > f1x4x4x3
CEIL f1x4x4x3 > f1x4x4x3
ROUND f1x4x4x3 > f1x4x4x3
ABS f1x4x4x3 > f1x4x4x3
NEG f1x4x4x3 > f1x4x4x3
SIGN f1x4x4x3 > f1x4x4x3
EXP f1x4x4x3 > f1x4x4x3
LOG f1x4x4x3 > f1x4x4x3
SIN f1x4x4x3 > f1x4x4x3
COS f1x4x4x3 > f1x4x4x3
SQRT f1x4x4x3 > f1x4x4x3
RSQRT f1x4x4x3 > f1x4x4x3
SQUARE f1x4x4x3 > f1x4x4x3
ZEROS_LIKE f1x4x4x3 > f1x4x4x3
L2_NORMALIZATION f1x4x4x3 > f1x4x4x3
LOCAL_RESPONSE_NORMALIZATION f1x4x4x3 > f1x4x4x3 ; radius=2 bias=1 alpha=1 beta=0.5
FAKE_QUANT f1x4x4x3 > f1x4x4x3 ; min=-1 max=1 numBits=8
QUANTIZE f1x4x4x3 > q1x4x4x3
QUANTIZE q1x4x4x3 > u1x4x4x3
DEQUANTIZE q1x4x4x3 > f1x4x4x3
DEQUANTIZE E1x4x4x3 > f1x4x4x3
CAST f1x4x4x3 > i1x4x4x3 ; outDataType=2
CAST i1x4x3 > c1x4x3 ; inDataType=2 outDataType=8
BITCAST f1x4x3 > i1x4x3
CONCATENATION f1x4x4x3 f1x4x4x3 > f1x4x4x6 ; axis=3
PACK f4x3 f4x3 > f2x4x3 ; valuesCount=2
UNPACK f2x4x3 > f4x3 f4x3 ; num=2
SPLIT I=1 f2x4x3 > f2x2x3 f2x2x3 ; numSplits=2
SPLIT_V f2x4x3 I2=1,3 I=1 > f2x1x3 f2x3x3 ; numSplits=2
RESHAPE f1x4x4x3 I2=1,-1 > f1x48
SQUEEZE f1x1x4x3 > f1x4x3 ; squeezeDims=1
EXPAND_DIMS f1x4x3 I=1 > f1x1x4x3
SHAPE f1x4x4x3 > i4 ; outType=2
RANK f1x4x4x3 > i
TRANSPOSE f1x4x4x3 I4=0,3,1,2 > f1x3x4x4
REVERSE_V2 f1x4x4x3 I1=2 > f1x4x4x3
REVERSE_SEQUENCE f2x4x3 I2=2,3 > f2x4x3 ; seqDim=1
PAD f1x4x4x3 I4x2=0,0,1,1,1,1,0,0 > f1x6x6x3
PADV2 f1x4x4x3 I4x2=0,0,1,1,1,1,0,0 F1 > f1x6x6x3
MIRROR_PAD f1x4x4x3 I4x2=0,0,1,1,1,1,0,0 > f1x6x6x3
SLICE f1x4x4x3 I4=0,1,0,0 I4=1,2,-1,3 > f1x2x4x3
STRIDED_SLICE f1x4x4x3 I4=0,1,0,0 I4=1,3,4,3 I4=1,1,2,1 > f1x2x2x3
TILE f1x4x4x3 I4=1,2,1,1 > f1x8x4x3
BROADCAST_TO F1x1x4x3 I4=1,4,4,3 > f1x4x4x3
BROADCAST_TO f1x4x3 I4=2,1,4,3 > f2x1x4x3
BROADCAST_ARGS I4=1,4,1,3 I3=4,1,1 > i4
FILL I2=3,4 F=1 > f3x4
RANGE I=0 I=10 I=2 > i5
RANGE F=0 F=1 F=0.25 > f4
ONE_HOT i4 I=5 F=1 F=0 > f4x5
GATHER f4x3 I2=1,3 > f2x3
GATHER f4x3 i2 > f2x3
GATHER_ND f4x3 I2x1=1,3 > f2x3
SCATTER_ND I2x1=1,3 f2x3 I2=5,3 > f5x3
SPARSE_TO_DENSE I3x2=0,0,1,1,2,2 I2=3,4 F3 F=0 > f3x4
SEGMENT_SUM f4x3 I4=0,0,1,1 > f2x3
UNSORTED_SEGMENT_SUM f4x3 I4=0,1,0,1 I=2 > f2x3
UNSORTED_SEGMENT_PROD f4x3 I4=0,1,0,1 I=2 > f2x3
UNSORTED_SEGMENT_MAX f4x3 I4=0,1,0,1 I=2 > f2x3
UNSORTED_SEGMENT_MIN f4x3 I4=0,1,0,1 I=2 > f2x3
RESIZE_BILINEAR f1x4x4x3 I2=8,8 > f1x8x8x3
RESIZE_NEAREST_NEIGHBOR f1x4x4x3 I2=8,8 > f1x8x8x3
SPACE_TO_DEPTH f1x4x4x3 > f1x2x2x12 ; blockSize=2
DEPTH_TO_SPACE f1x4x4x4 > f1x8x8x1 ; blockSize=2
SPACE_TO_BATCH_ND f1x4x4x3 I2=2,2 I2x2=0,0,0,0 > f4x2x2x3
BATCH_TO_SPACE_ND f4x2x2x3 I2=2,2 I2x2=0,0,0,0 > f1x4x4x3
MEAN f1x4x4x3 I2=1,2 > f1x3
SUM f1x4x4x3 I2=1,2 > f1x1x1x3 ; keepDims=1
REDUCE_PROD f1x4x4x3 I2=1,2 > f1x3
REDUCE_MAX f1x4x4x3 I2=1,2 > f1x3
REDUCE_MIN f1x4x4x3 I1=-1 > f1x4x4
REDUCE_ANY b4x3 I1=1 > b4
REDUCE_ALL b4x3 I1=1 > b4
ARG_MAX f1x48 I=1 > l1 ; outputType=4
ARG_MIN f1x48 I=1 > i1 ; outputType=2
TOPK_V2 f1x48 I=5 > f1x5 i1x5
CUMSUM f4x3 I=0 > f4x3
UNIQUE i6 > i6 i6 ; idxOutType=2
WHERE b4x3 > l12x2
SELECT b4x3 f4x3 f4x3 > f4x3
SELECT_V2 b4x1 f4x3 F3 > f4x3
MATRIX_DIAG f1x3 > f1x3x3
MATRIX_SET_DIAG f1x3x3 f1x3 > f1x3x3
ADD_N f4x3 f4x3 f4x3 > f4x3
BUCKETIZE f4x3 > i4x3 ; boundaries=1,2,3
MULTINOMIAL f2x5 I=7 > l2x7
RANDOM_UNIFORM I3=2,3,4 > f2x3x4
RANDOM_STANDARD_NORMAL I3=2,3,4 > f2x3x4
NON_MAX_SUPPRESSION_V4 f6x4 f6 I=3 F=0.5 F=0.1 > i3 i
NON_MAX_SUPPRESSION_V5 f6x4 f6 I=3 F=0.5 F=0.1 F=0.5 > i3 f3 i
DYNAMIC_UPDATE_SLICE f4x3 f2x3 I2=1,0 > f4x3
RFFT2D f1x4x4 I2=4,4 > c1x4x3
IMAG c4x3 > f4x3
REAL c4x3 > f4x3
COMPLEX_ABS c4x3 > f4x3
EMBEDDING_LOOKUP I3=0,2,1 F4x5 > f3x5
EMBEDDING_LOOKUP_SPARSE I3=0,1,1 I3x2=0,0,1,0,1,1 I2=2,2 F3 F4x5 > f2x2x5
HASHTABLE_LOOKUP I3=1,2,3 I4=1,2,3,4 F4x5 > f3x5 u3
LSH_PROJECTION F2x4 I3x2=1,2,3,4,5,6 F3 > i8 ; type=2
SKIP_GRAM s1 > s1 ; ngramSize=2
LSTM f1x3 F4x3 F4x3 F4x3 F4x3 F4x4 F4x4 F4x4 F4x4 - - - F4 F4 F4 F4 - - $1x4 $1x4 > f1x4
UNIDIRECTIONAL_SEQUENCE_LSTM f2x1x3 F4x3 F4x3 F4x3 F4x3 F4x4 F4x4 F4x4 F4x4 - - - F4 F4 F4 F4 - - $1x4 $1x4 - - - - > f2x1x4 ; timeMajor=1
RNN f1x3 F4x3 F4x4 F4 $1x4 > f1x4 ; fusedActivationFunction=1
UNIDIRECTIONAL_SEQUENCE_RNN f2x1x3 F4x3 F4x4 F4 $1x4 > f2x1x4 ; timeMajor=1
BIDIRECTIONAL_SEQUENCE_RNN f2x1x3 F4x3 F4x4 F4 $1x4 F4x3 F4x4 F4 $1x4 - - - > f2x1x4 f2x1x4 ; timeMajor=1
BIDIRECTIONAL_SEQUENCE_LSTM f2x1x3 F4x3 F4x3 F4x3 F4x3 F4x4 F4x4 F4x4 F4x4 - - - F4 F4 F4 F4 - - F4x3 F4x3 F4x3 F4x3 F4x4 F4x4 F4x4 F4x4 - - - F4 F4 F4 F4 - - $1x4 $1x4 $1x4 $1x4 - - - - - - - - - > f2x1x4 f2x1x4 ; timeMajor=1
SVDF f1x3 F4x3 F4x2 F2 $1x8 > f1x2 ; rank=2
DENSIFY F4x3 > f4x3
DILATE f4x3 I2=2,2 F=0 > f7x5
REDUCE_WINDOW f4x3 F=0 L2=2,2 L2=1,1 L2=1,1 > f3x2 ; reduceFunction=1
HASHTABLE > r1 ; tableId=1 keyDtype=4 valueDtype=5
HASHTABLE_FIND r1 L2 S1 > s2
HASHTABLE_IMPORT r1 L2 S2 >
HASHTABLE_SIZE r1 > l1
VAR_HANDLE > r1
READ_VARIABLE r1 > f4x3
ASSIGN_VARIABLE r1 f4x3 >
CALL f1x4x4x3 > f1x4x4x3
CALL_ONCE >
CUSTOM f1x4x4x3 > f1x4x4x3
CONCAT_EMBEDDINGS f1x4x4x3 > f1x4x4x3
DELEGATE f1x4x4x3 > f1x4x4x3
PLACEHOLDER_FOR_GREATER_OP_CODES f1x4x4x3 > f1x4x4x3
STABLEHLO_LOGISTIC f4x3 > f4x3
STABLEHLO_ADD f4x3 f4x3 > f4x3
STABLEHLO_DIVIDE f4x3 f4x3 > f4x3
STABLEHLO_MULTIPLY f4x3 f4x3 > f4x3
STABLEHLO_MAXIMUM f4x3 f4x3 > f4x3
STABLEHLO_MINIMUM f4x3 f4x3 > f4x3
STABLEHLO_SUBTRACT f4x3 f4x3 > f4x3
STABLEHLO_POWER f4x3 f4x3 > f4x3
STABLEHLO_REMAINDER f4x3 f4x3 > f4x3
STABLEHLO_AND b4x3 b4x3 > b4x3
STABLEHLO_OR b4x3 b4x3 > b4x3
STABLEHLO_SHIFT_LEFT i4x3 i4x3 > i4x3
STABLEHLO_ABS f4x3 > f4x3
STABLEHLO_COSINE f4x3 > f4x3
STABLEHLO_EXPONENTIAL f4x3 > f4x3
STABLEHLO_FLOOR f4x3 > f4x3
STABLEHLO_LOG f4x3 > f4x3
STABLEHLO_NEGATE f4x3 > f4x3
STABLEHLO_RSQRT f4x3 > f4x3
STABLEHLO_TANH f4x3 > f4x3
STABLEHLO_CBRT f4x3 > f4x3
STABLEHLO_RESHAPE f4x3 > f3x4
STABLEHLO_CLAMP F=0 f4x3 F=1 > f4x3
STABLEHLO_CONCATENATE f4x3 f4x3 > f8x3
STABLEHLO_BROADCAST_IN_DIM f4x3 I2=1,2 > f2x4x3 ; broadcastDimensions=1,2
STABLEHLO_CONVOLUTION f1x4x4x3 F3x3x3x2 > f1x2x2x2 ; windowStrides=1,1 padding=0,0,0,0 lhsDilation=1,1 rhsDilation=1,1 inputFeatureDimension=3 inputSpatialDimensions=1,2 kernelInputFeatureDimension=2 kernelOutputFeatureDimension=3 kernelSpatialDimensions=0,1 outputFeatureDimension=3 outputSpatialDimensions=1,2 featureGroupCount=1 batchGroupCount=1
STABLEHLO_SLICE f4x3 > f2x3 ; startIndices=1,0 limitIndices=3,3 strides=1,1
STABLEHLO_CUSTOM_CALL f4x3 > f4x3
STABLEHLO_SELECT b4x3 f4x3 f4x3 > f4x3
STABLEHLO_COMPARE f4x3 f4x3 > b4x3
STABLEHLO_CONVERT f4x3 > i4x3
STABLEHLO_DYNAMIC_SLICE f4x3 L=1 L=0 > f2x3 ; sliceSizes=2,3
STABLEHLO_DYNAMIC_UPDATE_SLICE f4x3 f2x3 L=1 L=0 > f4x3
STABLEHLO_PAD f4x3 F=0 > f6x3 ; edgePaddingLow=1,0 edgePaddingHigh=1,0 interiorPadding=0,0
STABLEHLO_IOTA > f4x3
STABLEHLO_DOT_GENERAL f4x3 F3x5 > f4x5 ; lhsContractingDimensions=1 rhsContractingDimensions=0
STABLEHLO_GATHER f4x3 L2x1=1,3 > f2x3 ; offsetDims=1 collapsedSliceDims=0 startIndexMap=0 indexVectorDim=1 sliceSizes=1,3
STABLEHLO_TRANSPOSE f4x3 > f3x4 ; permutation=1,0
STABLEHLO_RNG_BIT_GENERATOR Z2=1,2 > z2 w4x3 ; algorithm=1
STABLEHLO_REDUCE f4x3 F=0 > f4 ; dimensions=1 bodySubgraphIndex=1
STABLEHLO_REDUCE_WINDOW f4x3 F=0 > f3x2 ; windowDimensions=2,2 windowStrides=1,1 baseDilations=1,1 windowDilations=1,1 padding=0,0,0,0 bodySubgraphIndex=1
STABLEHLO_SCATTER f4x3 L2x1=1,3 f2x3 > f4x3 ; updateWindowDims=1 insertedWindowDims=0 scatterDimsToOperandDims=0 indexVectorDim=1 updateComputationSubgraphIndex=1
STABLEHLO_SORT f4x3 > f4x3 ; comparatorSubgraphIndex=1
STABLEHLO_COMPOSITE f1x4x4x3 > f1x4x4x3 ; decompositionSubgraphIndex=1 name=x compositeAttributes=0,36,1
STABLEHLO_CASE i f4x3 > f4x3 ; branchSubgraphIndices=1,2
STABLEHLO_WHILE i f4x3 > i f4x3 ; condSubgraphIndex=1 bodySubgraphIndex=2
IF b f4x3 > f4x3 ; thenSubgraphIndex=1 elseSubgraphIndex=2
WHILE i f4x3 > i f4x3 ; condSubgraphIndex=1 bodySubgraphIndex=2
"""

# Operations whose options have another name than the operation.
OPTIONS = {
    "AVERAGE_POOL_2D": "Pool2D", "MAX_POOL_2D": "Pool2D", "L2_POOL_2D": "Pool2D", "MAXIMUM": "MaximumMinimum",
    "MINIMUM": "MaximumMinimum", "MEAN": "Reducer", "SUM": "Reducer", "REDUCE_PROD": "Reducer", "REDUCE_MAX": "Reducer",
    "REDUCE_MIN": "Reducer", "REDUCE_ANY": "Reducer", "REDUCE_ALL": "Reducer", "L2_NORMALIZATION": "L2Norm",
    "RANDOM_UNIFORM": "Random", "RANDOM_STANDARD_NORMAL": "Random", "MULTINOMIAL": "Random", "CONV_3D_TRANSPOSE": "Conv3D",
    "UNIDIRECTIONAL_SEQUENCE_RNN": "SequenceRNN",
}  # fmt: skip

# Versions from which on an operation is there; others are there from 1 on.
VERSIONS = {"BROADCAST_TO": 2}
# The schema has these, LiteRT 2.3 has no kernels for them.
_NAMES = """
    CALL CONCAT_EMBEDDINGS DELEGATE PLACEHOLDER_FOR_GREATER_OP_CODES STABLEHLO_ABS STABLEHLO_BROADCAST_IN_DIM
    STABLEHLO_CBRT STABLEHLO_CLAMP STABLEHLO_COMPARE STABLEHLO_CONCATENATE STABLEHLO_CONVERT STABLEHLO_CONVOLUTION
    STABLEHLO_COSINE STABLEHLO_CUSTOM_CALL STABLEHLO_DIVIDE STABLEHLO_DOT_GENERAL STABLEHLO_DYNAMIC_SLICE
    STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_IOTA STABLEHLO_LOG
    STABLEHLO_LOGISTIC STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REDUCE STABLEHLO_REMAINDER
    STABLEHLO_RESHAPE STABLEHLO_RSQRT STABLEHLO_SELECT STABLEHLO_SLICE STABLEHLO_SORT STABLEHLO_SUBTRACT
    STABLEHLO_TANH STABLEHLO_TRANSPOSE STABLEHLO_WHILE
"""
WITHOUT_KERNELS = frozenset(_NAMES.split())


@dataclass(frozen=True)
class TensorUse:
    """A tensor of an operation: its type's letter, its shape, whether it is constant, and its values if it matters."""

    letter: str
    shape: tuple[int, ...]
    constant: bool
    values: tuple[float, ...] = ()
    variable: bool = False


@dataclass(frozen=True)
class OperationUse:
    """A valid use of an operation; an input that is None is left out."""

    name: str
    inputs: tuple[TensorUse | None, ...]
    outputs: tuple[TensorUse, ...]
    options: dict[str, str]


def operation_uses() -> list[OperationUse]:
    """Return the table."""
    return [_use(line) for line in _LINES.strip().splitlines()]


def _use(line: str) -> OperationUse:
    tensors, _, options = line.partition(";")
    reads, _, writes = tensors.partition(">")
    name, *inputs = reads.split()
    return OperationUse(
        name=name,
        inputs=tuple(None if word == "-" else tensor_use(word) for word in inputs),
        outputs=tuple(map(tensor_use, writes.split())),
        options=dict(option.split("=", 1) for option in options.split()),
    )


def tensor_use(token: str) -> TensorUse:
    """Return the tensor that a word describes."""
    described, _, values = token.partition("=")
    letter, shape = described[0], described[1:]
    return TensorUse(
        letter="f" if letter == "$" else letter.lower(),
        shape=tuple(map(int, shape.split("x"))) if shape else (),
        constant=letter.isupper(),
        values=tuple(map(float, values.split(","))) if values else (),
        variable=letter == "$",
    )
