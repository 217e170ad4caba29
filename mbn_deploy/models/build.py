"""The builder of Keras models: any table of a network becomes a Keras 3 functional model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mbn_deploy.models.layers import Layer, Spec, expand

if TYPE_CHECKING:
    import keras

BN_EPSILON = 1e-3


def build_model(spec: Spec) -> keras.Model:
    """Build the Keras model of `spec` with random weights: input (N, H, W, 3), output (N, classes).

    The layers have the order and the classes of those in `keras.applications`, so that weights saved from there load
    here. V3 takes pixels in [0, 255] (it rescales inside), V1 and V2 take values in [-1, 1].
    """
    import keras

    layers = expand(spec)
    tensors: list[Any] = [keras.Input(layers[0].shape)]
    for layer in layers[1:]:
        sources = [tensors[i] for i in layer.inputs]
        tensors.append(_apply(layer, sources, keras.layers))
    model = keras.Model(tensors[0], tensors[-1], name=spec.network.name)
    model.mbn_spec = spec  # the export reads from it what the input means and how to name the files
    return model


def _apply(layer: Layer, sources: list[Any], kl: Any) -> Any:
    if layer.kind == "hard_sigmoid":
        # Bare operations, as in the reference: one layer more or less would shift the counters in weights files.
        return kl.ReLU(6.0, name=layer.name)(sources[0] + 3.0) * (1.0 / 6.0)
    return _make(layer, kl)(sources if len(sources) > 1 else sources[0])


def _make(layer: Layer, kl: Any) -> Any:
    name = layer.name
    match layer.kind:
        case "rescaling":
            return kl.Rescaling(scale=1.0 / 127.5, offset=-1.0, name=name)
        case "conv":
            return kl.Conv2D(
                layer.shape[-1], layer.kernel, layer.stride, padding=layer.padding, use_bias=layer.use_bias, name=name
            )
        case "depthwise":
            return kl.DepthwiseConv2D(layer.kernel, layer.stride, padding=layer.padding, use_bias=False, name=name)
        case "batch_norm":
            return kl.BatchNormalization(epsilon=BN_EPSILON, momentum=layer.momentum, name=name)
        case "relu":
            return kl.ReLU(name=name)
        case "relu6":
            return kl.ReLU(6.0, name=name)
        case "hard_swish":
            return kl.Activation("hard_swish", name=name)
        case "pad":
            return kl.ZeroPadding2D(layer.pads, name=name)
        case "global_average_pool":
            return kl.GlobalAveragePooling2D(keepdims=layer.keepdims, name=name)
        case "global_max_pool":
            return kl.GlobalMaxPooling2D(name=name)
        case "dropout":
            return kl.Dropout(layer.rate, name=name)
        case "dense":
            return kl.Dense(layer.shape[-1], activation=layer.activation, name=name)
        case "reshape":
            return kl.Reshape(layer.shape, name=name)
        case "flatten":
            return kl.Flatten(name=name)
        case "activation":
            return kl.Activation(layer.activation or "linear", name=name)
        case "add":
            return kl.Add(name=name)
        case "multiply":
            return kl.Multiply(name=name)
    raise AssertionError(f"no Keras layer for {layer.kind}")  # a bug, not a user's mistake
