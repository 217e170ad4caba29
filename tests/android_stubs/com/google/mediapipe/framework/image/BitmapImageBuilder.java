package com.google.mediapipe.framework.image;

import android.graphics.Bitmap;

/** ai.google.dev/edge/api/mediapipe/java/com/google/mediapipe/framework/image/BitmapImageBuilder */
public class BitmapImageBuilder {
    public BitmapImageBuilder(Bitmap bitmap) {}

    public MPImage build() {
        return new MPImage();
    }
}
