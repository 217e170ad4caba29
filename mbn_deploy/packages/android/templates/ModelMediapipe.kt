package §{package}

import kotlin.math.min

/** The models, best first; their metadata describe input and output. */
enum class §{name}Model(internal val path: String) {
§{entries}
    ;

    companion object {
        /** The model that is opened by default. */
        @JvmField
        val DEFAULT: §{name}Model = §{default}

        internal const val LABELS = "§{folder}/labels.txt"
        internal const val CLASSES = §{classes}
        internal const val NAMES = §{names_count}
        internal const val WIDTH = §{width}
        internal const val HEIGHT = §{height}

        /** Returns the part of a picture that the model sees, before it is turned: left, top, right, bottom as shares. */
        internal fun box(width: Int, height: Int, rotationDegrees: Int): FloatArray {
            require(rotationDegrees % 90 == 0) { "rotationDegrees must be 0, 90, 180 or 270, not $rotationDegrees" }
            §{box}
        }
    }
}
