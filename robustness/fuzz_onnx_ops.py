"""Valid uses of operations that onnxruntime has beside those of the onnx package's tests, as text.

One line an operation: its domain and name, the tensors it reads, `>` and the number of tensors it writes where that is
not one, `;`, its attributes. Tensors are written as in `fuzz_tflite_ops.py`.
"""
# ruff: noqa: E501 (a line an operation)

from __future__ import annotations

from fuzz_tflite_ops import TensorUse, tensor_use

_LINES = """
com.microsoft:Attention f1x4x8 F8x24 F24 ; num_heads=2
com.microsoft:BiasGelu f2x8 F8
com.microsoft:CDist f4x3 f5x3 ; metric=sqeuclidean
com.microsoft:ConvTransposeWithDynamicPads f1x2x4x4 F2x3x3x3 L4=0,0,0,0
com.microsoft:CropAndResize f1x3x4x4 F2x4 I2=0,0 I2=2,2
com.microsoft:DequantizeLinear q4 F=0.1 Q=0
com.microsoft:DynamicQuantizeMatMul f4x8 Q8x3 F=0.1 Q=0 F3
com.microsoft:EmbedLayerNormalization I1x4 I1x4 F8x8 F8x8 F4x8 F8 F8 > 2
com.microsoft:ExpandDims f4 I=0
com.microsoft:FastGelu f2x8 F8
com.microsoft:FusedConv f1x3x4x4 F2x3x3x3 F2 ; activation=Relu
com.microsoft:FusedGemm f4x8 F8x3 F3 ; activation=Relu
com.microsoft:FusedMatMul f4x8 F8x3 ; transA=0
com.microsoft:GatherND f4x3 L2x1=1,2
com.microsoft:Gelu f2x8
com.microsoft:GridSample f1x3x4x4 F1x4x4x2
com.microsoft:GroupQueryAttention f1x4x16 f1x4x8 f1x4x8 - - I1=3 I=4 > 3 ; num_heads=2 kv_num_heads=1
com.microsoft:Inverse f1x3x3
com.microsoft:MatMulBnb4 f4x64 U96 F3 ; K=64 N=3 quant_type=1 block_size=64
com.microsoft:MatMulIntegerToFloat u4x8 U8x3 F=0.1 F=0.1
com.microsoft:MatMulNBits f4x32 U3x1x16 F3 ; K=32 N=3 bits=4 block_size=32
com.microsoft:MaxpoolWithMask f1x3x4x4 I1x3x4x4 ; kernel_shape=2,2
com.microsoft:MoE f4x8 f4x2 F2x16x8 - F2x8x16 ; k=1 activation_type=relu
com.microsoft:MultiHeadAttention f1x4x8 f1x4x8 f1x4x8 ; num_heads=2
com.microsoft:MurmurHash3 i4
com.microsoft:NGramRepeatBlock L2x4 f2x10 ; ngram_size=2
com.microsoft:NhwcMaxPool u1x4x4x3 ; kernel_shape=2,2
com.microsoft:Pad f4x3 L4=1,0,1,0 F1=0
com.microsoft:QAttention u1x4x8 U8x24 F24 F=0.1 F=0.1 - U=0 U=0 ; num_heads=2
com.microsoft:QGemm u4x8 F=0.1 U=0 U8x3 F=0.1 U=0 I3 F=0.1 U=0
com.microsoft:QLinearAdd u4x3 F=0.1 U=0 u4x3 F=0.1 U=0 F=0.2 U=0
com.microsoft:QLinearAveragePool u1x3x4x4 F=0.1 U=0 F=0.1 U=0 ; kernel_shape=2,2
com.microsoft:QLinearConcat F=0.1 U=0 u4x3 F=0.1 U=0 u4x3 F=0.1 U=0 ; axis=0
com.microsoft:QLinearConv u1x3x4x4 F=0.1 U=0 U2x3x3x3 F=0.1 U=0 F=0.1 U=0 I2
com.microsoft:QLinearGlobalAveragePool u1x3x4x4 F=0.1 U=0 F=0.1 U=0
com.microsoft:QLinearLeakyRelu u4x3 F=0.1 U=0 F=0.1 U=0
com.microsoft:QLinearMul u4x3 F=0.1 U=0 u4x3 F=0.1 U=0 F=0.2 U=0
com.microsoft:QLinearSigmoid u4x3 F=0.1 U=0 F=0.1 U=0
com.microsoft:QLinearSoftmax u4x3 F=0.1 U=0 F=0.1 U=0 ; axis=1 opset=13
com.microsoft:QLinearWhere B4x3 u4x3 F=0.1 U=0 u4x3 F=0.1 U=0 F=0.1 U=0
com.microsoft:QuantizeLinear f4 F=0.1 U=0
com.microsoft:QuickGelu f2x8
com.microsoft:Range F=0 F=5 F=1
com.microsoft:RotaryEmbedding f1x4x8 L1=0 F8x4 F8x4 ; num_heads=1
com.microsoft:SampleOp f4
com.microsoft:SkipLayerNormalization f1x4x8 f1x4x8 F8 F8 F8
com.microsoft:SkipSimplifiedLayerNormalization f1x4x8 f1x4x8 F8
com.microsoft:TransposeMatMul f4x8 F8x3
com.microsoft:Trilu f4x4 L=0
com.microsoft:UnfoldTensor f4x4 ; dim=1 size=2 step=1
com.microsoft:Unique f6 > 3
com.microsoft.nchwc:AveragePool f1x16x4x4 ; kernel_shape=2,2
com.microsoft.nchwc:Conv f1x16x4x4 F16x16x3x3
com.microsoft.nchwc:GlobalAveragePool f1x16x4x4
com.microsoft.nchwc:GlobalMaxPool f1x16x4x4
com.microsoft.nchwc:MaxPool f1x16x4x4 ; kernel_shape=2,2
com.microsoft.nchwc:ReorderInput f1x16x4x4
com.microsoft.nchwc:ReorderOutput f1x16x4x4 ; channels=16
com.microsoft.nchwc:Upsample f1x16x4x4 ; scales=1,1,2,2
ai.onnx.ml:ArrayFeatureExtractor f2x4 L1=1
ai.onnx.ml:Imputer f2x4 ; imputed_value_floats=1 replaced_value_float=0
ai.onnx.ml:LinearClassifier f2x4 > 2 ; coefficients=1,1,1,1,1,1,1,1 intercepts=0,0 classlabels_ints=0,1
ai.onnx.ml:LinearRegressor f2x4 ; coefficients=1,1,1,1
ai.onnx.ml:Normalizer f2x4 ; norm=MAX
ai.onnx.ml:OneHotEncoder l2x4 ; cats_int64s=1,2,3
ai.onnx.ml:SVMRegressor f2x4 ; support_vectors=1,1,1,1 coefficients=1 kernel_type=LINEAR n_supports=1 rho=0
ai.onnx.ml:Scaler f2x4 ; offset=0,0,0,0 scale=1,1,1,1
ai.onnx.ml:TreeEnsembleRegressor f2x4 ; n_targets=1 nodes_treeids=0,0,0 nodes_nodeids=0,1,2 nodes_featureids=0,0,0 nodes_values=1,0,0 nodes_modes=BRANCH_LEQ,LEAF,LEAF nodes_truenodeids=1,0,0 nodes_falsenodeids=2,0,0 target_treeids=0,0 target_nodeids=1,2 target_ids=0,0 target_weights=1,2
:RandomNormal ; shape=2,3
:RandomUniform ; shape=2,3
:RandomNormalLike f2x3 ; dtype=1
:RandomUniformLike f2x3 ; dtype=1
:Multinomial f2x3 ; dtype=6 sample_size=4
:GlobalLpPool f1x3x4x4
:LpPool f1x3x4x4 ; kernel_shape=2,2
:MaxRoiPool f1x3x4x4 F1x5=0,0,0,2,2 ; pooled_shape=2,2
:MaxUnpool f1x1x2x2 L1x1x2x2=5,7,13,15 ; kernel_shape=2,2 strides=2,2
:RoiAlign f1x3x4x4 F1x4=0,0,2,2 L1=0 ; output_height=2 output_width=2
:PRelu f1x3x4x4 F3x1x1
"""


def described_uses() -> list[tuple[str, list[TensorUse | None], int, dict[str, str]]]:
    """Return for each line the name, the tensors, the number of outputs and the attributes as text."""
    return [_described(line) for line in _LINES.strip().splitlines()]


def _described(line: str) -> tuple[str, list[TensorUse | None], int, dict[str, str]]:
    tensors, _, attributes = line.partition(";")
    reads, _, writes = tensors.partition(">")
    name, *inputs = reads.split()
    uses = [None if word == "-" else tensor_use(word) for word in inputs]
    return name.removeprefix(":"), uses, int(writes or 1), dict(option.split("=", 1) for option in attributes.split())
