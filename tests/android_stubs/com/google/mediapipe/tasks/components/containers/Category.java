package com.google.mediapipe.tasks.components.containers;

/** ai.google.dev/edge/api/mediapipe/java/com/google/mediapipe/tasks/components/containers/Category */
public abstract class Category {
    public abstract float score();

    public abstract int index();

    public abstract String categoryName();
}
