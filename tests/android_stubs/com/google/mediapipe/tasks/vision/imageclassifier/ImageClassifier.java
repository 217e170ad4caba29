package com.google.mediapipe.tasks.vision.imageclassifier;

import android.content.Context;
import com.google.mediapipe.framework.image.MPImage;
import com.google.mediapipe.tasks.core.BaseOptions;
import com.google.mediapipe.tasks.vision.core.ImageProcessingOptions;

/** ai.google.dev/edge/api/mediapipe/java/com/google/mediapipe/tasks/vision/imageclassifier/ImageClassifier */
public final class ImageClassifier implements AutoCloseable {
    /** ai.google.dev/edge/api/mediapipe/java/.../imageclassifier/ImageClassifier.ImageClassifierOptions */
    public abstract static class ImageClassifierOptions {
        /** ai.google.dev/edge/api/mediapipe/java/.../ImageClassifier.ImageClassifierOptions.Builder */
        public abstract static class Builder {
            public abstract Builder setBaseOptions(BaseOptions value);

            public final native ImageClassifierOptions build();
        }

        public static native Builder builder();
    }

    public static native ImageClassifier createFromOptions(Context context, ImageClassifierOptions options);

    public native ImageClassifierResult classify(MPImage image, ImageProcessingOptions imageProcessingOptions);

    @Override
    public native void close();
}
