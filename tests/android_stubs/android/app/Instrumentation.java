package android.app;

import android.content.Context;

/** developer.android.com/reference/android/app/Instrumentation; here both contexts are given. */
public class Instrumentation {
    private final Context context;
    private final Context targetContext;

    public Instrumentation(Context context, Context targetContext) {
        this.context = context;
        this.targetContext = targetContext;
    }

    public Context getContext() {
        return context;
    }

    public Context getTargetContext() {
        return targetContext;
    }
}
