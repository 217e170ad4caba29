package com.google.mediapipe.framework.image;

/** ai.google.dev/edge/api/mediapipe/java/com/google/mediapipe/framework/image/MPImage */
public class MPImage {}
