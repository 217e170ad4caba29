package androidx.test.platform.app;

import android.app.Instrumentation;

/** developer.android.com/reference/androidx/test/platform/app/InstrumentationRegistry; here it is set by the tests. */
public final class InstrumentationRegistry {
    public static Instrumentation instrumentation;

    private InstrumentationRegistry() {}

    public static Instrumentation getInstrumentation() {
        return instrumentation;
    }
}
