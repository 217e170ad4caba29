// Made by mbn-deploy §{version}.
plugins {
    id("com.android.§{plugin}")
}

§{block} {
    packName.set("§{pack}") // must be the name of this folder
    dynamicDelivery {
        deliveryType.set("§{delivery}")
    }
}
