package org.tensorflow.lite;

/** developers.google.com/edge/api/tflite/java/org/tensorflow/lite/Tensor */
public interface Tensor {
    int numBytes();
}
