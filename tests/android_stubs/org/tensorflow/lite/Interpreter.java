package org.tensorflow.lite;

import java.nio.ByteBuffer;

/**
 * developers.google.com/edge/api/tflite/java/org/tensorflow/lite/Interpreter; here another process runs the model:
 * see `Remote`.
 */
public final class Interpreter implements AutoCloseable {
    /** developers.google.com/edge/api/tflite/java/org/tensorflow/lite/Interpreter.Options */
    public static class Options {
        int threads;
        boolean xnnpack;

        public Options setNumThreads(int numThreads) {
            threads = numThreads;
            return this;
        }

        public Options setUseXNNPACK(boolean useXNNPACK) {
            xnnpack = useXNNPACK;
            return this;
        }
    }

    private final Remote remote;

    public Interpreter(ByteBuffer byteBuffer, Options options) {
        if (options.threads < 1 || !options.xnnpack || !byteBuffer.isDirect()) throw new IllegalArgumentException();
        remote = new Remote(byteBuffer, "tflite");
    }

    public Tensor getInputTensor(int inputIndex) {
        return () -> remote.inputBytes;
    }

    public void run(Object input, Object output) {
        ((ByteBuffer) output).put(remote.run((ByteBuffer) input));
    }

    @Override
    public void close() {
        remote.close();
    }
}
