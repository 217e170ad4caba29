package android.os;

/** developer.android.com/reference/android/os/Build.VERSION */
public class Build {
    public static class VERSION {
        public static final int SDK_INT = Integer.parseInt("36");
    }
}
