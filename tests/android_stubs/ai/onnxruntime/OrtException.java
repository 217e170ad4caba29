package ai.onnxruntime;

/** onnxruntime.ai/docs/api/java/ai/onnxruntime/OrtException.html */
public class OrtException extends Exception {
    private static final long serialVersionUID = 1L;

    public OrtException(String message) {
        super(message);
    }
}
