package com.google.mediapipe.tasks.core;

import java.nio.ByteBuffer;

/** ai.google.dev/edge/api/mediapipe/java/com/google/mediapipe/tasks/core/BaseOptions */
public abstract class BaseOptions {
    /** ai.google.dev/edge/api/mediapipe/java/com/google/mediapipe/tasks/core/BaseOptions.Builder */
    public abstract static class Builder {
        public abstract Builder setModelAssetBuffer(ByteBuffer value);

        public abstract BaseOptions build();
    }

    public static native Builder builder();
}
