package §{package}

import kotlin.math.min

/** The model files, best first: written from the bundle's manifest. How they are fed is in their metadata. */
enum class §{name}Model(internal val path: String) {
§{entries}
    ;

    companion object {
        /** What is opened where nothing is said. */
        @JvmField
        val DEFAULT: §{name}Model = §{default}

        internal const val LABELS = "§{folder}/labels.txt"
        internal const val CLASSES = §{classes}
        internal const val WIDTH = §{width}
        internal const val HEIGHT = §{height}

        /** What the model sees of a picture: left, top, right, bottom, as shares of it, before it is turned. */
        internal fun box(width: Int, height: Int, rotationDegrees: Int): FloatArray {
            require(rotationDegrees % 90 == 0) { "a picture is turned by 0, 90, 180 or 270 degrees" }
            §{box}
        }
    }
}
