package com.google.mediapipe.tasks.components.containers;

import java.util.List;

/** ai.google.dev/edge/api/mediapipe/java/com/google/mediapipe/tasks/components/containers/Classifications */
public abstract class Classifications {
    public abstract List<Category> categories();
}
