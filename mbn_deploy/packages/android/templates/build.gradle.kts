// Made by mbn-deploy §{version}. The project that includes this module chooses the versions of the plugins.
plugins {
    id("com.android.library")
}

// The Android Gradle plugin compiles Kotlin by itself from version 9 on.
if (com.android.Version.ANDROID_GRADLE_PLUGIN_VERSION.substringBefore('.').toInt() < 9) {
    apply(plugin = "org.jetbrains.kotlin.android")
}

android {
    namespace = "§{package}"
    compileSdk = §{compile_sdk}
    defaultConfig {
        minSdk = §{min_sdk}
        consumerProguardFiles("consumer-rules.pro")
        testInstrumentationRunner = "androidx.test.runner.AndroidJUnitRunner"
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
    // A compressed asset cannot be mapped. The app that uses this module needs the same line.
    androidResources {
        noCompress += "§{extension}"
    }
}

tasks.withType<org.jetbrains.kotlin.gradle.tasks.KotlinCompile>().configureEach {
    compilerOptions.jvmTarget.set(org.jetbrains.kotlin.gradle.dsl.JvmTarget.JVM_17)
}

dependencies {
§{dependencies}
    androidTestImplementation("androidx.test.ext:junit:1.3.0")
    androidTestImplementation("androidx.test:runner:1.7.0")
}
