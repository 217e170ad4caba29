package ai.onnxruntime;

/** onnxruntime.ai/docs/api/java/ai/onnxruntime/OnnxValue.html */
public interface OnnxValue extends AutoCloseable {
    @Override
    void close();
}
