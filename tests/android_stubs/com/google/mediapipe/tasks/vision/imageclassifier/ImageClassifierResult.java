package com.google.mediapipe.tasks.vision.imageclassifier;

import com.google.mediapipe.tasks.components.containers.ClassificationResult;

/** ai.google.dev/edge/api/mediapipe/java/com/google/mediapipe/tasks/vision/imageclassifier/ImageClassifierResult */
public abstract class ImageClassifierResult {
    public abstract ClassificationResult classificationResult();
}
