package §{package};

import static org.junit.Assert.assertEquals;

import android.content.Context;
import android.graphics.Bitmap;
import androidx.test.ext.junit.runners.AndroidJUnit4;
import androidx.test.platform.app.InstrumentationRegistry;
import java.io.IOException;
import java.util.List;
import org.junit.Test;
import org.junit.runner.RunWith;

/** Shows how the classifier is used from Java. */
@RunWith(AndroidJUnit4.class)
public final class §{name}JavaTest {
    @Test
    public void aPictureOfAnySize() throws IOException {
        Context context = InstrumentationRegistry.getInstrumentation().§{getter}();
        Bitmap photograph = Bitmap.createBitmap(640, 480, Bitmap.Config.ARGB_8888);
        try (§{name} classifier = §{name}.open(context)) {
§{test}
        }
    }
}
