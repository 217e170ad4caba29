package com.google.mediapipe.tasks.components.containers;

import java.util.List;

/** ai.google.dev/edge/api/mediapipe/java/com/google/mediapipe/tasks/components/containers/ClassificationResult */
public abstract class ClassificationResult {
    public abstract List<Classifications> classifications();
}
