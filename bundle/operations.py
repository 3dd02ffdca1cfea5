"""The TensorFlow operations that the graph of a bundle may contain: those that only compute.

A graph is a program: it can also read and write files, call Python functions and open connections. A list of what is
allowed stays right when TensorFlow gains operations.
"""

from collections.abc import Iterable

_PURE = frozenset(
    (  # noqa: SIM905 - shorter than a list
        # Structure
        "Const Identity IdentityN NoOp Placeholder PlaceholderWithDefault PreventGradient StopGradient Snapshot "
        "EnsureShape PartitionedCall StatefulPartitionedCall StatelessIf If StatelessWhile While StatelessCase Case "
        "Switch Merge Enter Exit NextIteration LoopCond Select SelectV2 "
        # Shapes
        "BroadcastArgs BroadcastTo Concat ConcatOffset ConcatV2 DepthToSpace DynamicPartition DynamicStitch ExpandDims "
        "Fill Gather GatherNd GatherV2 InvertPermutation LinSpace MirrorPad OneHot OnesLike Pack Pad PadV2 Range Rank "
        "Reshape Reverse ReverseSequence ReverseV2 Roll ScatterNd Shape ShapeN Size Slice SpaceToBatch SpaceToBatchND "
        "BatchToSpace BatchToSpaceND SpaceToDepth Split SplitV Squeeze StridedSlice TensorScatterAdd "
        "TensorScatterUpdate Tile Transpose ConjugateTranspose Unpack Where ZerosLike "
        # Arithmetic
        "Abs Acos Acosh Add AddN AddV2 All Any ArgMax ArgMin Asin Asinh Atan Atan2 Atanh Bitcast BitwiseAnd BitwiseOr "
        "Bucketize Cast Ceil ClipByValue Cos Cosh Cumprod Cumsum Digamma Div DivNoNan Einsum Equal Erf Erfc Erfinv "
        "EuclideanNorm Exp Expm1 Floor FloorDiv FloorMod Greater GreaterEqual Inv IsFinite IsInf IsNan L2Loss "
        "LeftShift "
        "Less LessEqual Lgamma Log Log1p LogicalAnd LogicalNot LogicalOr Max Maximum Mean Min Minimum Mod Mul MulNoNan "
        "Neg NotEqual Pow Prod RealDiv Reciprocal RightShift Rint Round Rsqrt SegmentSum Sign Sin Sinh Sqrt Square "
        "SquaredDifference Sub Sum Tan Tanh TopK TopKV2 TruncateDiv TruncateMod UnsortedSegmentSum Xdivy Xlog1py Xlogy "
        "BatchMatMul BatchMatMulV2 BatchMatMulV3 MatMul MatrixBandPart MatrixDiag MatrixDiagPart MatrixDiagPartV3 "
        "MatrixDiagV3 MatrixInverse MatrixSetDiag FFT2D IFFT2D RFFT2D IRFFT2D Complex ComplexAbs Real Imag "
        # Layers
        "AvgPool AvgPool3D BiasAdd BiasAddV1 Conv2D Conv2DBackpropInput Conv3D Conv3DBackpropInputV2 "
        "DepthwiseConv2dNative Dilation2D Elu ExtractImagePatches FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars "
        "FakeQuantWithMinMaxVarsPerChannel FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 LRN LeakyRelu LogSoftmax "
        "MaxPool MaxPool3D MaxPoolV2 MaxPoolWithArgmax QuantizeAndDequantizeV2 QuantizeAndDequantizeV3 "
        "QuantizeAndDequantizeV4 Relu Relu6 Selu Sigmoid Softmax Softplus Softsign InTopKV2 "
        # Images
        "AdjustContrastv2 AdjustHue AdjustSaturation CropAndResize HSVToRGB ImageProjectiveTransformV2 "
        "ImageProjectiveTransformV3 RGBToHSV ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor "
        "ScaleAndTranslate "
        # Lists of tensors, in loops
        "EmptyTensorList TensorListConcatV2 TensorListElementShape TensorListFromTensor TensorListGather "
        "TensorListGetItem TensorListLength TensorListPopBack TensorListPushBack TensorListReserve TensorListSetItem "
        "TensorListStack "
        # Random numbers, which layers such as dropout use only in training
        "RandomStandardNormal RandomUniform RandomUniformInt StatelessRandomGetKeyCounter StatelessRandomGetAlg "
        "StatelessRandomNormalV2 StatelessRandomUniformV2 StatelessRandomUniformFullIntV2 StatelessRandomUniformIntV2 "
        "StatelessTruncatedNormalV2 TruncatedNormal"
    ).split()
)


def unsafe_operations(used: Iterable[str], also: frozenset[str] = frozenset()) -> list[str]:
    """The operations among `used` that may do more than compute, sorted; those in `also` are allowed, too."""
    return sorted(set(used) - _PURE - also)
