package com.google.mediapipe.tasks.vision.core;

import android.graphics.RectF;

/** ai.google.dev/edge/api/mediapipe/java/com/google/mediapipe/tasks/vision/core/ImageProcessingOptions */
public abstract class ImageProcessingOptions {
    /** ai.google.dev/edge/api/mediapipe/java/com/google/mediapipe/tasks/vision/core/ImageProcessingOptions.Builder */
    public abstract static class Builder {
        public abstract Builder setRegionOfInterest(RectF value);

        public abstract Builder setRotationDegrees(int value);

        public final native ImageProcessingOptions build();
    }

    public static native Builder builder();
}
